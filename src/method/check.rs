//! What several options have to keep to.

use super::learnable::{Blocks, DEEPEST};
use crate::architecture::{Architecture, VisionLayers};
use crate::error::{Error, Result};

/// No text tower in use reads more than 77 positions, of which the start and the end of a text take two.
const LONGEST_CONTEXT: i64 = 75;
/// More tokens than any vision tower was ever given; what is allowed is what is allocated.
const LONGEST_VISION_CONTEXT: i64 = 1_000;

/// In MaPLe and IVLP initial words may be longer than the context, of which the published code starts up to so many
/// tokens from them, and any longer one at random.
const LONGEST_FROM_WORDS: i64 = 4;

pub(super) fn at_least_one(name: &str, value: i64) -> Result<()> {
    match value {
        1.. => Ok(()),
        _ => Err(Error::hinted(format!("`{name}` is {value}"), "give a number from 1 up").about(name)),
    }
}

/// Checks a number of which so many are made, as soon as a pipeline is read.
fn from_one_to(name: &str, value: i64, most: i64) -> Result<()> {
    at_least_one(name, value)?;
    if value <= most {
        return Ok(());
    }
    Err(Error::hinted(format!("`{name}` is {value}"), format!("give a number from 1 to {most}")).about(name))
}

/// The number of learned tokens in a text of the class names.
pub(super) fn context_length(value: i64) -> Result<()> {
    from_one_to("context_length", value, LONGEST_CONTEXT)
}

/// The number of learned tokens in the vision tower.
pub(super) fn vision_context_length(value: i64) -> Result<()> {
    from_one_to("vision_context_length", value, LONGEST_VISION_CONTEXT)
}

/// The number of blocks with learned tokens.
pub(super) fn depth(name: &str, value: i64) -> Result<()> {
    from_one_to(name, value, DEEPEST)
}

/// A factor of a term of a loss.
pub(super) fn weight(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::hinted(format!("`{name}` is {value}"), "give a number from 0 up").about(name))
}

/// The first and the last block of a tower that a method changes.
pub(super) fn blocks(name: &str, blocks: Blocks) -> Result<()> {
    let Blocks([first, last]) = blocks;
    if (1..=last).contains(&first) && last <= DEEPEST {
        return Ok(());
    }
    let hint = format!("give the first and the last block, both from 1 to {DEEPEST}, such as `[5, 12]`");
    Err(Error::hinted(format!("`{name}` is [{first}, {last}]"), hint).about(name))
}

/// Checks that a text has one place for the class name.
///
/// # Errors
/// Names the text.
pub fn check_template(template: &str) -> Result<()> {
    if template.matches("{}").count() == 1 {
        return Ok(());
    }
    let message = format!("the template `{template}` does not hold `{{}}` once");
    Err(Error::hinted(message, "write `{}` where the class name goes"))
}

/// Checks texts of which each class has the mean of the features.
pub(super) fn check_templates(templates: &[String]) -> Result<()> {
    if templates.is_empty() {
        let hint = "give texts with `{}` where the class name goes";
        return Err(Error::hinted("`templates` is empty", hint).about("templates"));
    }
    templates.iter().try_for_each(|template| check_template(template).map_err(|error| error.about("templates")))
}

/// The text of a class where nothing else is said.
pub(super) fn plain_templates() -> Vec<String> {
    vec!["a photo of a {}.".to_owned()]
}

/// Checks a number that may have a fraction.
pub(super) fn from_zero_up(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::hinted(format!("`{name}` is {value}"), "give a number from 0 up").about(name))
}

/// Checks that the text tower has at least `depth` blocks.
pub(super) fn in_text(name: &str, depth: i64, architecture: &Architecture) -> Result<()> {
    at_most(name, depth, "text", architecture.text_layers)
}

/// Checks that the vision tower is a transformer of at least `depth` blocks; a ResNet takes no prompts.
pub(super) fn in_vision(name: &str, depth: i64, architecture: &Architecture) -> Result<()> {
    match architecture.vision_layers {
        VisionLayers::Transformer(blocks) => at_most(name, depth, "vision", blocks),
        VisionLayers::ResNet(_) if depth == 0 => Ok(()),
        VisionLayers::ResNet(_) => Err(Error::hinted(
            format!("`{name}` is {depth}, but the vision tower is a ResNet, which takes no prompts"),
            "use weights with a vision transformer, such as `openai/ViT-B-16`",
        )),
    }
}

fn at_most(name: &str, depth: i64, tower: &str, blocks: i64) -> Result<()> {
    if depth <= blocks {
        return Ok(());
    }
    let message = format!("`{name}` is {depth}, but the {tower} tower has {blocks} blocks");
    Err(Error::hinted(message, format!("set `{name}` to at most {blocks}")))
}

/// Checks that initial words are words and nothing else.
pub(super) fn initial_words(words: &str) -> Result<()> {
    let wrong =
        [("{}", "leave it out: the learner puts the class name in its place"), ("_", "write spaces between the words")];
    match wrong.iter().find(|(text, _)| words.contains(text)) {
        Some((text, hint)) => Err(Error::hinted(format!("`context_initial_words` has `{text}`: `{words}`"), *hint)
            .about("context_initial_words")),
        None => Ok(()),
    }
}

/// A context whose first tokens start from words, as in MaPLe and IVLP.
pub(super) fn context_from_words(length: i64, words: &str) -> Result<()> {
    context_length(length)?;
    initial_words(words)?;
    if length <= LONGEST_FROM_WORDS || words.is_empty() {
        return Ok(());
    }
    Err(Error::hinted(
        format!("`context_length` is {length}, but initial words start {LONGEST_FROM_WORDS} tokens at most"),
        format!(
            "remove `context_initial_words` for a random start, as published, or set `context_length` to at most \
             {LONGEST_FROM_WORDS}"
        ),
    )
    .about("context_length"))
}

/// A context that is as long as its initial words, as in CoOp and CoCoOp.
pub(super) fn context_of_words(length: i64, words: &str) -> Result<()> {
    context_length(length)?;
    initial_words(words)?;
    let count = words.split_whitespace().count() as i64;
    if count == 0 || count == length {
        return Ok(());
    }
    Err(Error::hinted(
        format!("`context_length` is {length}, but `context_initial_words` has {count} words"),
        format!("set `context_length` to {count}, or remove the words for a random start"),
    )
    .about("context_length"))
}
