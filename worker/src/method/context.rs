//! The text of every class around a learned context: `<context> <class name>.`
//!
//! As published, the whole initial phrase is tokenized in front of the name, and the context takes the place of its
//! first tokens: with a context of two and "a photo of a", a prompt reads `[start] c1 c2 of a NAME . [end]`.

use std::collections::BTreeSet;

use tch::Tensor;

use super::passes::{self, Part, Parts, Pass, Shared};
use crate::clip::{Additions, Clip, PromptRows, Tokenizer};
use maple_pipe::error::{Error, Result};
use maple_pipe::method::{ClassTokenPosition, check_template};

/// Word that stands for a context token with no initial words; the context overwrites its embedding.
const PLACEHOLDER: &str = "X";

/// What prompts are built from.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) clip: &'a Clip,
    pub(super) tokenizer: &'a Tokenizer,
    /// Names of the classes, in the order of their labels.
    pub(super) class_names: &'a [String],
    /// How work is cut.
    pub(super) parts: Parts,
}

/// How the learned context stands in the prompts.
#[derive(Clone, Copy)]
pub(super) struct Arrangement {
    /// Learned tokens per prompt; 0 for plain text.
    pub(super) length: i64,
    pub(super) position: ClassTokenPosition,
    /// Whether each class has a context of its own.
    pub(super) class_specific: bool,
    /// Tokens that take the place of the first in a later block, for each class its own; 0 for none.
    pub(super) class_tokens: i64,
}

impl Arrangement {
    /// One context for all classes, in front of the name.
    pub(super) fn in_front(length: i64) -> Arrangement {
        Arrangement { length, position: ClassTokenPosition::End, class_specific: false, class_tokens: 0 }
    }
}

/// The prompts of some classes: embeddings of their words, and where these and the context stand.
pub(super) struct ClassPrompts {
    /// `(words, text width)`.
    words: Tensor,
    rows: PromptRows,
    /// The same, some classes each, where they are many.
    parts: Vec<PromptRows>,
}

/// A class name as it stands in a prompt.
fn spoken(class_name: &str) -> String {
    class_name.replace('_', " ")
}

/// `template` with the class name in place of its `{}`.
fn fill(template: &str, class_name: &str) -> String {
    template.replace("{}", &spoken(class_name))
}

impl Words<'_> {
    /// Features `(classes, embedding)` of a template such as "a photo of a {}.", without any gradient.
    pub(super) fn fixed_features(&self, template: &str) -> Result<Tensor> {
        Ok(self.fixed_prompts(template)?.fixed_features(self.clip))
    }

    /// Prompts of a template without any context.
    ///
    /// # Errors
    /// When the template has no place for the class name, or a prompt is too long.
    pub(super) fn fixed_prompts(&self, template: &str) -> Result<ClassPrompts> {
        check_template(template)?;
        let texts = self.class_names.iter().map(|name| fill(template, name));
        self.prompts(texts.collect(), Arrangement::in_front(0))
    }

    /// Checks that the tower has room for a template with the name of every class.
    ///
    /// # Errors
    /// Names the class.
    pub(super) fn check_room(&self, template: &str) -> Result<()> {
        let texts: Vec<String> = self.class_names.iter().map(|name| fill(template, name)).collect();
        self.tokens(&texts, Arrangement::in_front(0)).map(drop)
    }

    /// Prompts `<phrase> <class name>.` around a context that takes the place of the phrase's first tokens.
    ///
    /// # Errors
    /// When the phrase is shorter than the context, or a prompt too long.
    pub(super) fn context_prompts(&self, initial_words: &str, arrangement: Arrangement) -> Result<ClassPrompts> {
        let phrase = self.phrase(initial_words, arrangement.length)?;
        let texts = self.class_names.iter().map(|name| fill(&format!("{phrase} {{}}."), name));
        self.prompts(texts.collect(), arrangement)
    }

    /// Prompts of a template with a context that takes the place of its first tokens.
    ///
    /// # Errors
    /// When fewer tokens than the context stand in front of the class name, or a prompt is too long.
    pub(super) fn template_prompts(&self, template: &str, arrangement: Arrangement) -> Result<ClassPrompts> {
        check_template(template)?;
        let before = template.split("{}").next().unwrap_or_default();
        let (tokens, length) = (self.tokenizer.encode(before).len() as i64, arrangement.length);
        if tokens < length {
            return Err(Error::hinted(
                format!("`{template}` has {tokens} tokens before the class name, fewer than the context of {length}"),
                format!("write `{PLACEHOLDER}` for every token of the context: the context takes their place"),
            ));
        }
        let texts = self.class_names.iter().map(|name| fill(template, name));
        self.prompts(texts.collect(), arrangement)
    }

    /// The phrase in front of every name: the initial words, or as many placeholders as the context is long.
    fn phrase(&self, initial_words: &str, length: i64) -> Result<String> {
        if initial_words.is_empty() {
            return Ok(vec![PLACEHOLDER; length as usize].join(" "));
        }
        let tokens = self.tokenizer.encode(initial_words).len() as i64;
        if tokens < length {
            return Err(Error::hinted(
                format!("`{initial_words}` has {tokens} tokens, fewer than the context of {length}"),
                "give more initial words, a shorter `context_length`, or no words for a random start",
            ));
        }
        Ok(initial_words.to_owned())
    }

    /// The embeddings of the first `length` tokens of `initial_words`, `(length, text width)`; where they are fewer, behind zeros.
    pub(super) fn initial_context(&self, initial_words: &str, length: i64) -> Tensor {
        let tokens = self.tokenizer.encode(initial_words);
        let words = self.clip.token_embeddings(&tokens[..tokens.len().min(length as usize)]);
        let lacking = length - words.size()[0];
        Tensor::cat(&[Tensor::zeros([lacking, words.size()[1]], (words.kind(), words.device())), words], 0)
    }

    /// A context of no tokens, `(0, text width)`.
    pub(super) fn no_context(&self) -> Tensor {
        Tensor::zeros([0, self.clip.architecture().text_width], (self.clip.kind(), self.clip.device()))
    }

    /// The tokens of the text of every class.
    fn tokens(&self, texts: &[String], arrangement: Arrangement) -> Result<Vec<Vec<i64>>> {
        let positions = self.clip.architecture().text_positions;
        let tokenize = |(text, name): (&String, &String)| {
            let within = match arrangement.length {
                0 => String::new(),
                length => format!(" with a context of {length}"),
            };
            self.tokenizer.tokenize(text, positions, &format!("the prompt of class `{name}`{within}"))
        };
        texts.iter().zip(self.class_names).map(tokenize).collect()
    }

    fn prompts(&self, texts: Vec<String>, arrangement: Arrangement) -> Result<ClassPrompts> {
        if texts.is_empty() {
            return Err(Error::invalid("there is no class to write a prompt for"));
        }
        let positions = self.clip.architecture().text_positions;
        let tokens = self.tokens(&texts, arrangement)?;
        // Token 0 stands behind the end of every text.
        let vocabulary: BTreeSet<i64> = tokens.iter().flatten().copied().chain([0]).collect();
        let vocabulary: Vec<i64> = vocabulary.into_iter().collect();
        let word = |token: &i64| vocabulary.binary_search(token).unwrap_or_default() as i64;

        let prompts: Vec<Vec<i64>> = tokens
            .iter()
            .enumerate()
            .map(|(class, tokens)| {
                let words = tokens.iter().map(word).collect::<Vec<i64>>();
                let class = if arrangement.class_specific { class as i64 } else { 0 };
                let first = vocabulary.len() as i64 + class * arrangement.length;
                let context: Vec<i64> = (first..first + arrangement.length).collect();
                (words, context)
            })
            .zip(self.class_names)
            .map(|((words, context), name)| {
                let name_length = self.tokenizer.encode(&spoken(name)).len();
                arrange(&words, &context, arrangement.position, name_length)
            })
            .collect();
        let (padding, device) = (word(&0), self.clip.device());
        let arrange = |prompts: &[Vec<i64>]| match arrangement.class_tokens {
            0 => PromptRows::new(prompts, padding, positions, device),
            count => PromptRows::with_class_tokens(count, prompts, padding, positions, device),
        };
        let rows = arrange(&prompts)?;
        let parts = match self.parts.of_classes(rows.rows()) {
            1 => Vec::new(),
            count => prompts.chunks(prompts.len().div_ceil(count as usize)).map(arrange).collect::<Result<_>>()?,
        };
        Ok(ClassPrompts { words: self.clip.token_embeddings(&vocabulary), rows, parts })
    }
}

/// The rows of a prompt: `words` with `context` in place of the words behind the first, moved where `position` says.
fn arrange(words: &[i64], context: &[i64], position: ClassTokenPosition, name_length: usize) -> Vec<i64> {
    let (start, rest) = (&words[..1], &words[1 + context.len()..]);
    let (name, end) = rest.split_at(name_length.min(rest.len()));
    let (first_half, second_half) = context.split_at(context.len() / 2);
    match position {
        ClassTokenPosition::End => [start, context, rest].concat(),
        ClassTokenPosition::Middle => [start, first_half, name, second_half, end].concat(),
        ClassTokenPosition::Front => [start, name, context, end].concat(),
    }
}

impl ClassPrompts {
    /// Features `(classes, embedding)` of prompts without any context, without any gradient.
    pub(super) fn fixed_features(&self, clip: &Clip) -> Tensor {
        let no_context = Tensor::zeros([0, clip.architecture().text_width], (clip.kind(), clip.device()));
        let features =
            tch::no_grad(|| passes::run(vec![self.pass(clip, &no_context, Vec::new(), Additions::default())]));
        features[0].output.squeeze_dim(0)
    }

    /// Features `(G, classes, embedding)`, not normalised. The context is `(n, text width)`, or `(G, n, text width)`
    /// with one for each of `G` images; a class-specific one is `(classes * n, text width)`.
    pub(super) fn features(&self, clip: &Clip, context: &Tensor, deep: &[Tensor], additions: &Additions) -> Tensor {
        clip.prompt_features(&self.table(context), &self.rows, deep, additions)
    }

    /// The pass through the text tower that has these features, some classes a part.
    pub(super) fn pass<'a>(
        &'a self,
        clip: &'a Clip,
        context: &Tensor,
        deep: Vec<Tensor>,
        additions: Additions,
    ) -> Pass<'a> {
        let (clip, prompts) = (Shared(clip), Shared(self));
        let (classes_before, count, added) = (std::cell::Cell::new(0), deep.len(), additions.tensors());
        let part = |rows: &'a PromptRows| -> Part<'a> {
            let (start, classes) = (classes_before.get(), rows.classes());
            classes_before.set(start + classes);
            let (rows, additions) = (Shared(rows), additions.with(&added));
            Box::new(move |inputs| {
                let (deep, added) = inputs[1..].split_at(count);
                let table = prompts.get().table(&inputs[0]);
                // Of what each class has for itself, that of these classes.
                let own =
                    |deep: &Tensor| if deep.dim() == 3 { deep.narrow(0, start, classes) } else { deep.shallow_clone() };
                let deep: Vec<Tensor> = deep.iter().map(own).collect();
                clip.get().prompt_features(&table, rows.get(), &deep, &additions.with(added))
            })
        };
        let rows = if self.parts.is_empty() { std::slice::from_ref(&self.rows) } else { &self.parts };
        let inputs = std::iter::once(context.shallow_clone()).chain(deep).chain(additions.tensors()).collect();
        Pass::new(clip.get().device(), inputs, 1, rows.iter().map(part).collect())
    }

    /// The same through the text tower as published.
    pub(super) fn features_reference(
        &self,
        clip: &Clip,
        context: &Tensor,
        deep: &[Tensor],
        additions: &Additions,
    ) -> Tensor {
        let tables = self.table(context).unbind(0);
        let features = tables.iter().map(|table| clip.prompt_features_reference(table, &self.rows, deep, additions));
        Tensor::stack(&features.collect::<Vec<_>>(), 0)
    }

    /// How many rows the text tower works on for one image or for all.
    pub(super) fn row_count(&self) -> i64 {
        self.rows.rows()
    }

    /// Words and context one behind the other, `(G, words + context, text width)`.
    fn table(&self, context: &Tensor) -> Tensor {
        let context = context.to_kind(self.words.kind());
        let context = if context.dim() == 2 { context.unsqueeze(0) } else { context };
        let words = self.words.unsqueeze(0).expand([context.size()[0], -1, -1], false);
        Tensor::cat(&[words, context], 1)
    }
}
