//! A file of tensors, whatever its format: recognised by its first bytes, not by its name.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use serde::{Deserialize, Serialize};

use super::array::{Array, is_float};
use super::names::{self, Names};
use super::{NumberFormat, Shapes, torch};
use crate::backbone::{BackboneOptions, Known};
use crate::error::{Error, Result};

/// The metadata entry of a safetensors file that holds the note; one entry only, because several are written in no fixed
/// order.
const NOTE: &str = "maple-pipe";

/// The longest header of a safetensors file, in bytes, as the crate has it.
const LONGEST_HEADER: u64 = 100_000_000;

/// The format of a file of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// safetensors.
    SafeTensors,
    /// A zip archive of a TorchScript module, which is how OpenAI publishes its weights.
    TorchScript,
    /// What `torch.save` writes: a zip archive, or a plain pickle before PyTorch 1.6.
    TorchSave,
}

/// Named tensors, and the file they come from.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    names: Names,
    note: Option<String>,
    epoch: Option<i64>,
    said: BackboneOptions,
    tensors: BTreeMap<String, Array>,
}

/// The note that [`Checkpoint::to_bytes`] keeps in a file: what its tensors do not tell.
#[derive(Deserialize, Serialize)]
struct Note {
    backbone: BackboneOptions,
}

impl Checkpoint {
    /// Reads the tensors of a file under the names that they have there. Of a pickled dictionary that holds more than a
    /// model, the entry `state_dict` is read.
    ///
    /// # Errors
    /// When the file cannot be read or its format is none of [`Format`].
    pub fn read(path: &Path) -> Result<Checkpoint> {
        let checkpoint = Checkpoint::read_some(path, &|_| true)?;
        if checkpoint.tensors.is_empty() {
            return Err(Error::format(path, "checkpoint", "it holds no tensors"));
        }
        Ok(checkpoint)
    }

    /// [`Checkpoint::read`] for the tensors whose names are `wanted`, of which there may be none; the others are not
    /// kept in memory.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read`].
    pub fn read_some(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Checkpoint> {
        let of_pytorch = pytorch(path, wanted)?;
        let (path, names) = (path.to_owned(), Names::OpenAi);
        if let Some(torch::Contents { tensors, epoch, torch_script, activation, .. }) = of_pytorch {
            let format = if torch_script { Format::TorchScript } else { Format::TorchSave };
            let said = BackboneOptions { activation, ..BackboneOptions::default() };
            return Ok(Checkpoint { path, format, names, note: None, epoch, said, tensors });
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let (note, tensors) = safetensors(&bytes, wanted).map_err(|error| unreadable(&path, error))?;
        let said = said(note.as_deref());
        Ok(Checkpoint { path, format: Format::SafeTensors, names, note, epoch: None, said, tensors })
    }

    /// CLIP's tensors under OpenAI's names, whatever they had; what is no weight is left out.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read`], and when a weight is no floating-point number.
    pub fn read_clip(path: &Path) -> Result<Checkpoint> {
        let checkpoint = Checkpoint::read(path)?;
        let (tensors, names) = names::openai(checkpoint.tensors);
        let checkpoint = Checkpoint { tensors, names, ..checkpoint };
        match checkpoint.tensors.iter().find(|(_, array)| !is_float(array.dtype)) {
            Some((name, array)) => Err(Error::hinted(
                format!("{} hold `{name}` as {}, which is no floating-point number", checkpoint.origin(), array.dtype),
                "give weights in F16, BF16, F32 or F64; quantized ones cannot be used",
            )),
            None => Ok(checkpoint),
        }
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whose names the tensors had in the file.
    pub fn names(&self) -> Names {
        self.names
    }

    /// Where the tensors come from, as it reads in a message: "the weights `file`".
    pub fn origin(&self) -> String {
        format!("the weights `{}`", self.path.display())
    }

    /// The text kept beside the tensors.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The entry `epoch` that a training kept beside the model.
    pub fn epoch(&self) -> Option<i64> {
        self.epoch
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Array> {
        &self.tensors
    }

    /// The names and shapes, and what the file says of the model.
    pub fn shapes(&self) -> Shapes {
        let shapes = self.tensors.iter().map(|(name, array)| (name.clone(), array.shape.clone()));
        Shapes::new(self.origin(), shapes).saying(self.said)
    }

    /// The bytes of a safetensors file with these tensors, which says of itself what is `known` of the model.
    ///
    /// # Errors
    /// When an array's bytes are not as many as its shape asks for.
    pub fn to_bytes(&self, known: &Known) -> Result<Vec<u8>> {
        let note = serde_json::to_string(&Note { backbone: known.options() }).expect("plain data");
        to_safetensors(&self.tensors, Some(&note))
    }

    /// The tensors in another number format.
    pub fn into_number_format(self, number_format: NumberFormat) -> Checkpoint {
        let convert = |(name, array): (String, Array)| {
            let array = number_format.apply(&name, &array);
            (name, array)
        };
        Checkpoint { tensors: self.tensors.into_iter().map(convert).collect(), ..self }
    }
}

impl Shapes {
    /// The names and shapes of CLIP's tensors in a file, under OpenAI's names, and what it says of the model. The values
    /// are not read.
    ///
    /// # Errors
    /// When the file cannot be read or its format is none of [`Format`].
    pub fn read_clip(path: &Path) -> Result<Shapes> {
        let (shapes, said) = match pytorch(path, &|_| false)? {
            Some(torch::Contents { shapes, activation, .. }) => {
                (shapes, BackboneOptions { activation, ..BackboneOptions::default() })
            }
            None => {
                let metadata = header(path)?;
                let shape = |info: &TensorInfo| info.shape.iter().map(|length| *length as i64).collect();
                let shapes = metadata.tensors().into_iter().map(|(name, info)| (name, shape(info)));
                let note = metadata.metadata().as_ref().and_then(|entries| entries.get(NOTE));
                (shapes.collect(), said(note.map(String::as_str)))
            }
        };
        let (shapes, _) = names::openai(shapes);
        Ok(Shapes::new(format!("the weights `{}`", path.display()), shapes).saying(said))
    }
}

/// What a file of PyTorch's holds; `None` for any other.
fn pytorch(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<torch::Contents>> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut start = Vec::new();
    file.by_ref().take(torch::PLAIN.len() as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
    file.rewind().map_err(Error::io("read", path))?;
    let read = if start.starts_with(b"PK\x03\x04") {
        torch::read_archive(file, wanted)
    } else if start == torch::PLAIN {
        torch::read_plain(file, wanted)
    } else {
        return Ok(None);
    };
    read.map(Some).map_err(|message| Error::format(path, "checkpoint", message))
}

fn unreadable(path: &Path, error: impl Display) -> Error {
    Error::format(path, "checkpoint", format!("it is neither PyTorch's nor safetensors ({error})"))
}

/// What a safetensors file holds before its values.
fn header(path: &Path) -> Result<Metadata> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|error| unreadable(path, error))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err(unreadable(path, "header too large"));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(Error::io("read", path))?;
    serde_json::from_slice(&header).map_err(|error| unreadable(path, error))
}

/// What a note says of the model; other notes say nothing of it.
fn said(note: Option<&str>) -> BackboneOptions {
    note.and_then(|note| serde_json::from_str::<Note>(note).ok())
        .map_or_else(BackboneOptions::default, |note| note.backbone)
}

/// The note and the tensors of a safetensors file.
fn safetensors(
    bytes: &[u8],
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(Option<String>, BTreeMap<String, Array>), safetensors::SafeTensorError> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let note = metadata.metadata().as_ref().and_then(|entries| entries.get(NOTE).cloned());
    let views = SafeTensors::deserialize(bytes)?.tensors();
    let array = |view: &TensorView| Array {
        dtype: view.dtype(),
        shape: view.shape().iter().map(|length| *length as i64).collect(),
        bytes: view.data().to_vec(),
    };
    let views = views.iter().filter(|(name, _)| wanted(name));
    Ok((note, views.map(|(name, view)| (name.clone(), array(view))).collect()))
}

/// The bytes of a safetensors file with a text beside the tensors; the same tensors give the same bytes.
///
/// # Errors
/// When an array's bytes are not as many as its shape asks for.
pub fn to_safetensors(tensors: &BTreeMap<String, Array>, note: Option<&str>) -> Result<Vec<u8>> {
    let wrong = |error| Error::invalid(format!("the tensors cannot be written as safetensors: {error}"));
    let mut views = Vec::with_capacity(tensors.len());
    for (name, array) in tensors {
        let shape = array.shape.iter().map(|length| *length as usize).collect();
        views.push((name, TensorView::new(array.dtype, shape, &array.bytes).map_err(wrong)?));
    }
    let metadata = note.map(|note| HashMap::from([(NOTE.to_owned(), note.to_owned())]));
    safetensors::serialize(views, metadata).map_err(wrong)
}
