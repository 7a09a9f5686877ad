//! `maple-pipe predict`: what a trained prompt takes a person's own pictures for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::pictures::{ModelArguments, pictures};
use super::prompts::class_names;
use super::terminal::{display, print, print_json};
use crate::error::{Error, Result};
use crate::files::csv;
use crate::inference::{Answer, What};
use crate::method::Description;
use crate::text::{columns, visible};
use crate::weights::Checkpoint;

/// Print the likeliest classes of your own pictures, at most five, with their probabilities
///
/// A picture that cannot be read or decoded is left out with a warning; the exit code is then 1.
#[derive(Args, Debug)]
pub(super) struct Predict {
    /// A trained prompt
    prompt: PathBuf,
    /// Pictures, and folders with pictures at any depth
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The names of the classes to choose from: a JSON list, or one per line [default: those that the prompt belongs to, if it
    /// serves no others]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// The form
    #[arg(long, default_value = "table", conflicts_with = "json")]
    format: Format,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A line per picture
    Table,
    /// A row per picture and class
    Csv,
}

/// What is said of all pictures.
#[derive(Serialize)]
struct Report {
    images: Vec<Image>,
    /// What is wrong with pictures that are left out.
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct Image {
    image: String,
    top: Vec<Likely>,
}

#[derive(Serialize)]
struct Likely {
    class: String,
    probability: f64,
}

/// A row of CSV.
#[derive(Serialize)]
struct Row<'a> {
    image: &'a str,
    rank: usize,
    class: &'a str,
    probability: String,
}

impl Predict {
    pub(super) fn run(self) -> Result<()> {
        let images = pictures(&self.images)?;
        let note = Checkpoint::read_note(&self.prompt)?;
        let description = Description::parse(note.as_deref(), &format!("the weights `{}`", display(&self.prompt)))?;
        let class_names = match &self.classes {
            Some(file) => class_names(file)?,
            None => description.classes,
        };
        if class_names.is_empty() {
            return Err(Error::hinted("there are no classes to choose from", "name a file of them with `--classes`"));
        }
        let model = self.model.of_prompt(&self.prompt)?;
        let what = What::Classes { prompt: self.prompt, class_names: class_names.clone() };
        let mut report = Report { images: Vec::new(), left_out: Vec::new() };
        let left_out = self.model.look(model, images, what, |answer| {
            if let Answer::Classes { image, top } = answer {
                let likely =
                    |(label, probability): (usize, f64)| Likely { class: class_names[label].clone(), probability };
                report.images.push(Image { image, top: top.into_iter().map(likely).collect() });
            }
        })?;
        report.left_out.clone_from(&left_out.messages);
        match (self.json, self.format) {
            (true, _) => print_json(&report)?,
            (false, Format::Csv) => print(&csv(report.rows()))?,
            (false, Format::Table) => print(&report.table())?,
        }
        left_out.conclude()
    }
}

impl Report {
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.images.iter().flat_map(|Image { image, top }| {
            top.iter().zip(1..).map(move |(Likely { class, probability }, rank)| Row {
                image,
                rank,
                class,
                probability: format!("{probability:.6}"),
            })
        })
    }

    fn table(&self) -> String {
        let likely =
            |Likely { class, probability }: &Likely| format!("{:5.1} % {}", 100.0 * probability, visible(class));
        let line = |Image { image, top }: &Image| {
            std::iter::once(visible(image).into_owned()).chain(top.iter().map(likely)).collect()
        };
        columns(&self.images.iter().map(line).collect::<Vec<_>>())
    }
}
