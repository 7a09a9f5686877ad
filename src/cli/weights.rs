//! `maple-pipe weights`: the weights of CLIP models as files.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::terminal::{display, download_bar, print, say};
use crate::architecture::{Architecture, VisionLayers};
use crate::backbone::{Activation, Backbone, BackboneOptions, Known, Told};
use crate::download::sha256;
use crate::error::{Error, Result};
use crate::files::write_output;
use crate::weights::{Checkpoint, Format, Names, NumberFormat, PUBLISHED, PublishedWeights, known};

/// Fetch, check and convert the weights of CLIP models
#[derive(Args, Debug)]
pub(super) struct WeightsCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the published weights that have a name, and whether they are there
    List(DataRoot),
    /// Download published weights into `weights/` of the data root; goes on where it stopped
    Fetch {
        /// E.g. `openai/ViT-B-16`; `maple-pipe weights list` names them all
        #[arg(required = true)]
        names: Vec<String>,
        /// Take the file from here instead; it must have the published content
        #[arg(long)]
        url: Option<String>,
        #[command(flatten)]
        data: DataRoot,
    },
    /// Say what a file holds: the model, its sizes, precision and digest, and what tells heads and activation
    Check {
        /// A file, or the name of published weights
        weights: String,
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        data: DataRoot,
    },
    /// Write a file's tensors as safetensors, under OpenAI's names
    Convert {
        /// A file, or the name of published weights
        weights: String,
        /// The file to write
        output: PathBuf,
        /// The precision to write them in [default: the file's]
        #[arg(long)]
        precision: Option<NumberFormat>,
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        data: DataRoot,
    },
}

/// What tensors do not tell.
#[derive(Args, Debug)]
pub(super) struct Given {
    /// The activation of the transformers, where the file does not say it
    #[arg(long)]
    activation: Option<Activation>,
    /// The attention heads of the vision tower, where nothing tells them
    #[arg(long, value_name = "N")]
    vision_heads: Option<i64>,
    /// The attention heads of the text tower, where nothing tells them
    #[arg(long, value_name = "N")]
    text_heads: Option<i64>,
}

impl Given {
    /// What is said of the model.
    pub(super) fn options(&self) -> BackboneOptions {
        let &Given { activation, vision_heads, text_heads } = self;
        BackboneOptions { activation, vision_heads, text_heads, ..BackboneOptions::default() }
    }

    /// What is known of the model in a file.
    fn known(&self, path: &Path, checkpoint: &Checkpoint) -> Result<Known> {
        known(path, &checkpoint.shapes(), &self.options(), false)
    }
}

#[derive(Args, Debug)]
pub(super) struct DataRoot {
    /// The folder that holds the data sets' folders
    #[arg(long = "data-root", value_name = "FOLDER", env = "MAPLE_DATA")]
    pub(super) folder: Option<PathBuf>,
}

impl WeightsCommand {
    pub(super) fn run(self) -> Result<()> {
        match self.action {
            Action::List(data) => list(data.folder.as_deref()),
            Action::Fetch { names, url, data } => {
                if url.is_some() && names.len() > 1 {
                    return Err(Error::hinted("`--url` is one file, but several names are given", "give one name"));
                }
                let data_root = data.folder()?;
                names.iter().try_for_each(|name| fetch(name, url.as_deref(), data_root))
            }
            Action::Check { weights, given, data } => check(&data.locate(&weights)?, given),
            Action::Convert { weights, output, precision, given, data } => {
                convert(&data.locate(&weights)?, &output, precision, given)
            }
        }
    }
}

impl DataRoot {
    pub(super) fn folder(&self) -> Result<&Path> {
        self.folder.as_deref().ok_or_else(|| {
            Error::hinted(
                "the folder of your data sets and weights is not given",
                "give `--data-root FOLDER` or set MAPLE_DATA",
            )
        })
    }

    /// The file that is meant by its path or by a published name.
    pub(super) fn locate(&self, given: &str) -> Result<PathBuf> {
        match PublishedWeights::find(given) {
            Some(published) => published.locate(self.folder.as_deref()),
            None if Path::new(given).exists() => Ok(given.into()),
            None => Err(unknown(format!("there is no file `{given}`, and no published weights of that name"))),
        }
    }
}

fn unknown(message: String) -> Error {
    Error::hinted(message, "`maple-pipe weights list` names those that are known")
}

fn list(data_root: Option<&Path>) -> Result<()> {
    for published in &PUBLISHED {
        let place = match data_root.map(|root| published.path(root)) {
            Some(path) if path.is_file() => display(&path),
            Some(_) => "not there".to_owned(),
            None => "no data root".to_owned(),
        };
        let Backbone { architecture, activation, .. } = published.backbone;
        print(&format!("{:24} {:52} {activation:11} {place}\n", published.name, vision(&architecture)))?;
    }
    Ok(())
}

fn fetch(name: &str, url: Option<&str>, data_root: &Path) -> Result<()> {
    let published =
        PublishedWeights::find(name).ok_or_else(|| unknown(format!("there are no published weights `{name}`")))?;
    let path = published.path(data_root);
    if path.is_file() {
        published.check(&path)?;
        say(&format!("{name} is there already: {}", display(&path)));
        return Ok(());
    }
    let bar = download_bar(name);
    published.fetch(data_root, url, &mut |have, total| {
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(have);
    })?;
    bar.finish_and_clear();
    say(&format!("fetched {name}: {}", display(&path)));
    Ok(())
}

fn check(path: &Path, given: Given) -> Result<()> {
    let checkpoint = Checkpoint::read_clip(path)?;
    let Known { architecture, activation, vision_heads, text_heads, .. } = given.known(path, &checkpoint)?;
    let digest = sha256(path)?;
    let published = PublishedWeights::of_digest(&digest);
    let published = published.map_or_else(String::new, |published| format!(", as published for {}", published.name));
    let rows = [
        ("file", display(path)),
        ("format", format!("{}, {}", format_name(checkpoint.format()), names_owner(checkpoint.names()))),
        ("vision", vision(&architecture)),
        ("text", text(&architecture)),
        ("embedding", architecture.embedding.to_string()),
        ("heads", format!("vision: {}; text: {}", told(vision_heads), told(text_heads))),
        ("activation", told(activation)),
        ("values", values(&checkpoint)),
        ("sha-256", format!("{digest}{published}")),
    ];
    rows.iter().try_for_each(|(name, value)| print(&format!("{name:10}  {value}\n")))?;
    let damaged = checkpoint.tensors().iter().map(|(name, array)| (name, array.not_finite()));
    let damaged: Vec<(&String, usize)> = damaged.filter(|(_, count)| *count > 0).collect();
    let count: usize = damaged.iter().map(|(_, count)| count).sum();
    damaged.first().map_or(Ok(()), |(name, _)| {
        Err(Error::Found {
            message: format!("values that are infinite or no numbers: {count}, the first of them in `{name}`"),
            hint: Some("nothing can be computed with them: fetch or convert the weights again".to_owned()),
        })
    })
}

fn convert(path: &Path, output: &Path, precision: Option<NumberFormat>, given: Given) -> Result<()> {
    let mut checkpoint = Checkpoint::read_clip(path)?;
    let known = given.known(path, &checkpoint)?;
    if let Some(precision) = precision {
        checkpoint = checkpoint.into_number_format(precision);
    }
    write_output(output, &checkpoint.to_bytes(&known)?)?;
    say(&format!("wrote {}: {}", display(output), values(&checkpoint)));
    Ok(())
}

/// A fact with its source, or that nothing tells it.
fn told<T: Display>(fact: Option<Told<T>>) -> String {
    fact.map_or_else(|| "not told".to_owned(), |Told { value, by }| format!("{value}, {by}"))
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::SafeTensors => "safetensors",
        Format::TorchScript => "TorchScript",
        Format::TorchSave => "torch.save",
    }
}

fn names_owner(names: Names) -> &'static str {
    match names {
        Names::OpenAi => "OpenAI's names",
        Names::HuggingFace => "Hugging Face's names",
    }
}

fn vision(architecture: &Architecture) -> String {
    let Architecture { image_size, patch_size, vision_width: width, .. } = architecture;
    match architecture.vision_layers {
        VisionLayers::Transformer(blocks) => {
            format!("{image_size} pixels, patches of {patch_size}, {blocks} blocks of width {width}")
        }
        VisionLayers::ResNet(stages) => {
            let stages = stages.map(|blocks| blocks.to_string()).join("+");
            format!("{image_size} pixels, ResNet of {stages} blocks from width {width}")
        }
    }
}

fn text(architecture: &Architecture) -> String {
    let Architecture { text_layers, text_width, text_positions, vocabulary, .. } = architecture;
    format!("{text_layers} blocks of width {text_width}, {text_positions} positions, {vocabulary} words")
}

/// How many numbers there are, and in which formats.
fn values(checkpoint: &Checkpoint) -> String {
    let mut formats: BTreeMap<String, usize> = BTreeMap::new();
    for array in checkpoint.tensors().values() {
        *formats.entry(array.dtype.to_string()).or_default() += array.count();
    }
    let total: usize = formats.values().sum();
    let formats: Vec<String> = formats.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
    format!("{total} in {} tensors: {}", checkpoint.tensors().len(), formats.join(", "))
}
