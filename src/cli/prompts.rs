//! `maple-pipe prompts`: trained prompts as files.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::terminal::{display, print, say};
use super::weights::DataRoot;
use crate::document::read_table;
use crate::error::{Error, Result};
use crate::files::{read_foreign_text, write_output};
use crate::method::{Method, Prompt, PublishedCheckpoint};
use crate::tokenizer::Tokenizer;
use crate::weights::Checkpoint;

/// Import, show and interpret trained prompts
#[derive(Args, Debug)]
pub(super) struct PromptsCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a trained prompt of a checkpoint of the published code, such as `model.pth.tar-5`
    ///
    /// Nothing in the checkpoint is executed. A pipeline does the same with a stage of kind `imported`.
    Import {
        /// The checkpoint
        file: PathBuf,
        /// The method that it was trained with, e.g. `pipelines/methods/maple.toml`; what its tensors tell is checked
        /// [default: the one shipped method that they fit]
        #[arg(long, short, value_name = "FILE")]
        method: Option<PathBuf>,
        /// The names of the classes of a class-specific context: a JSON list, or one per line
        #[arg(long, value_name = "FILE")]
        classes: Option<PathBuf>,
        /// The file to write [default: `prompt.safetensors` beside the checkpoint]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Write a trained prompt as a checkpoint that the published code loads
    ///
    /// The checkpoint holds the learned tensors: the published code makes CLIP's own anew. `prompts import` gives the same prompt
    /// again, to the bit.
    Export {
        /// A trained prompt
        file: PathBuf,
        /// The file to write, e.g. `model.pth.tar-5`
        output: PathBuf,
        /// The learner whose code is to load it, e.g. `maple` [default: the prompt's own]
        #[arg(long, value_name = "LEARNER")]
        like: Option<String>,
    },
    /// Say what a file holds: the learner, its options, and the learned tensors
    Show {
        /// A trained prompt, or a checkpoint of the published code
        file: PathBuf,
    },
    /// Print the words of the vocabulary that are nearest to every learned context vector
    Interpret {
        /// A trained prompt, or a checkpoint of the published code
        file: PathBuf,
        /// The weights of the CLIP model that it was trained with: a file, or the name of published ones
        #[arg(long, short)]
        weights: String,
        /// Words for each vector
        #[arg(long, value_name = "N", default_value = "3")]
        top: NonZeroUsize,
        /// One JSON document
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataRoot,
    },
}

impl PromptsCommand {
    pub(super) fn run(self) -> Result<()> {
        match self.action {
            Action::Import { file, method, classes, output } => {
                let output = output.unwrap_or_else(|| file.with_file_name("prompt.safetensors"));
                import(&file, method.as_deref(), classes.as_deref(), &output)
            }
            Action::Export { file, output, like } => export(&file, &output, like.as_deref()),
            Action::Show { file } => show(&file),
            Action::Interpret { file, weights, top, json, data } => {
                interpret(&file, &data.locate(&weights)?, top.get(), json)
            }
        }
    }
}

fn import(file: &Path, method: Option<&Path>, classes: Option<&Path>, output: &Path) -> Result<()> {
    let prompt = Prompt::read(file)?;
    prompt.check_whole()?;
    let method = match method {
        Some(file) => read_table(file)?.read().map_err(|mistake| vec![mistake])?,
        None => match prompt.description() {
            Some(description) => description.method.clone(),
            None => shipped_method(file, &prompt)?,
        },
    };
    let classes = classes.map(class_names).transpose()?.unwrap_or_default();
    write_output(output, &prompt.import(&method, &classes)?)?;
    if !prompt.left_over().is_empty() {
        let names: Vec<String> = prompt.left_over().iter().map(|name| format!("`{name}`")).collect();
        say(&format!("left out what the method does not use: {}", names.join(", ")));
    }
    say(&format!("wrote {}: {}", display(output), prompt.told_as(&method)));
    if !method.clip_average().is_empty() {
        say("CLIP's own tensors are not taken: an evaluation averages those of its weights, as the training did");
    }
    Ok(())
}

fn export(file: &Path, output: &Path, like: Option<&str>) -> Result<()> {
    let PublishedCheckpoint { learner, folder, epoch, bytes } = Prompt::read(file)?.export(like)?;
    write_output(output, &bytes)?;
    say(&format!("wrote {}: a checkpoint of `{learner}` after epoch {epoch}", display(output)));
    say(&format!(
        "hint: with `--model-dir FOLDER --load-epoch {epoch}` the published code loads \
         `FOLDER/{folder}/model.pth.tar-{epoch}`"
    ));
    Ok(())
}

/// The one shipped method that the tensors fit.
fn shipped_method(file: &Path, prompt: &Prompt) -> Result<Method> {
    let methods = prompt.shipped();
    if let [(name, method)] = methods.as_slice() {
        say(&format!("took `pipelines/methods/{name}.toml`, the one shipped method that fits"));
        return Ok(method.clone());
    }
    let names: Vec<String> = methods.iter().map(|(name, _)| format!("`pipelines/methods/{name}.toml`")).collect();
    Err(Error::hinted(
        format!(
            "`{}` does not say with which method it was trained; its tensors tell: {}",
            display(file),
            prompt.told()
        ),
        match names.is_empty() {
            true => "no shipped method fits: write one that does, and name it with `--method`".to_owned(),
            false => format!("name the method with `--method`; these fit: {}", names.join(", ")),
        },
    ))
}

/// The names of classes in a file: a JSON list, or one per line.
pub(super) fn class_names(path: &Path) -> Result<Vec<String>> {
    const FORMAT: &str = "list of class names";
    let text = read_foreign_text(path, FORMAT)?;
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text).map_err(|error| Error::format(path, FORMAT, error));
    }
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

fn show(file: &Path) -> Result<()> {
    let prompt = Prompt::read(file)?;
    let epoch = match prompt.description() {
        Some(description) => Some(i64::from(description.epoch)),
        None => prompt.epoch(),
    };
    let mut rows = vec![("file", display(file)), ("learner", prompt.told())];
    rows.extend(epoch.map(|epoch| ("epochs", epoch.to_string())));
    if !prompt.unknown().is_empty() {
        rows.push(("unknown", prompt.unknown().join(", ")));
    }
    if !prompt.left_over().is_empty() {
        rows.push(("left over", prompt.left_over().join(", ")));
    }
    if let Some(description) = prompt.description() {
        let method = serde_json::to_string(&description.method).expect("a method is plain data");
        rows.push(("method", method));
        if !description.classes.is_empty() {
            rows.push(("classes", description.classes.join(", ")));
        }
    }
    rows.iter().try_for_each(|(name, value)| print(&format!("{name:9}  {value}\n")))?;
    let width = prompt.tensors().keys().map(String::len).max().unwrap_or(0);
    prompt.tensors().iter().try_for_each(|(name, array)| {
        let shape: Vec<String> = array.shape.iter().map(i64::to_string).collect();
        print(&format!("{name:width$}  {:12} {}\n", shape.join(" x "), array.dtype))
    })
}

fn interpret(file: &Path, weights: &Path, top: usize, json: bool) -> Result<()> {
    let prompt = Prompt::read(file)?;
    let sections = prompt.interpret(&Checkpoint::read_clip(weights)?, &Tokenizer::new(), top)?;
    if json {
        let text = serde_json::to_string(&sections).expect("plain data");
        return print(&(text + "\n"));
    }
    for (number, section) in sections.iter().enumerate() {
        let class = section.class.map_or_else(String::new, |class| format!(", class {class}"));
        let gap = if number > 0 { "\n" } else { "" };
        print(&format!("{gap}{} (block {}{class})\n", section.tensor, section.depth))?;
        for (place, words) in section.vectors.iter().enumerate() {
            let words: Vec<String> =
                words.iter().map(|near| format!("{:<16} {:.4}", near.word, near.distance)).collect();
            print(&format!("{:>4}  {}\n", place + 1, words.join("   ")))?;
        }
    }
    Ok(())
}
