//! `maple-pipe features`: image features of a person's own pictures.

use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::NamedTempFile;

use super::pictures::{ModelArguments, pictures};
use super::terminal::{display, say};
use crate::error::{Error, Result};
use crate::files::write_output;
use crate::inference::{Tower, What};
use crate::method::{Description, Precision};
use crate::text::plural;
use crate::weights::{Checkpoint, PublishedWeights};

/// Write the image features of your own pictures as safetensors
///
/// The file holds a tensor `features`, one row per picture, as CLIP's image tower gives them, not normalised, and the pictures'
/// names in the entry `maple-pipe` of its metadata. A picture that cannot be read or decoded is left out with a warning; the
/// exit code is then 1.
#[derive(Args, Debug)]
pub(super) struct FeaturesCommand {
    /// A trained prompt, whose image tower computes; or the weights of a CLIP model, by their file or published name
    #[arg(value_name = "PROMPT_OR_WEIGHTS")]
    source: String,
    /// Pictures, and folders with pictures at any depth
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// The number formats in which weights compute; a prompt computes in those of its method [default: fp32]
    #[arg(long)]
    precision: Option<Precision>,
    #[command(flatten)]
    model: ModelArguments,
}

impl FeaturesCommand {
    pub(super) fn run(self) -> Result<()> {
        let images = pictures(&self.images)?;
        let (model, tower) = if self.is_prompt()? {
            if let Some(precision) = self.precision {
                let message = format!("a prompt computes in the precision of its method, not in {precision}");
                return Err(Error::hinted(message, "leave out `--precision`"));
            }
            let prompt = PathBuf::from(&self.source);
            (self.model.of_prompt(&prompt)?, Tower::Prompted(prompt))
        } else {
            let weights = self.model.data.locate(&self.source)?;
            (self.model.of_weights(weights)?, Tower::Plain(self.precision.unwrap_or_default()))
        };
        let written = NamedTempFile::new().map_err(Error::io("write in", std::env::temp_dir()))?;
        let what = What::Features { tower, output: written.path().to_owned() };
        let left_out = self.model.look(model, images, what, |_| {})?;
        if left_out.others() > 0 {
            let bytes = std::fs::read(written.path()).map_err(Error::io("read", written.path()))?;
            write_output(&self.output, &bytes)?;
            let count = plural(left_out.others(), "picture", "pictures");
            say(&format!("wrote {}: features of {count}", display(&self.output)));
        }
        left_out.conclude()
    }

    /// Whether the source is a trained prompt.
    fn is_prompt(&self) -> Result<bool> {
        let path = Path::new(&self.source);
        if PublishedWeights::find(&self.source).is_some() || !path.exists() {
            return Ok(false);
        }
        let note = Checkpoint::read_note(path)?;
        Ok(note.is_some_and(|note| serde_json::from_str::<Description>(&note).is_ok()))
    }
}
