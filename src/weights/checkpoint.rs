//! A file of tensors, whatever its format: recognised by its first bytes, not by its name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use super::array::{Array, is_float};
use super::mistaken::{self, FORMAT};
use super::names::{self, Names};
use super::pickle::cut_off;
use super::{NOTE, NumberFormat, Shapes, torch};
use crate::backbone::{BackboneOptions, Known};
use crate::error::{Error, Result};

/// How many bytes say how long a safetensors file's header is, which begins with `{`.
const LENGTH: usize = 8;

/// Where tensors in memory begin: at multiples of so many bytes.
pub const ALIGNMENT: usize = 64;

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
        Checkpoint::take_all(path, Way::Read)
    }

    fn take_all(path: &Path, way: Way) -> Result<Checkpoint> {
        let checkpoint = Checkpoint::take(path, way, &|_| true)?;
        if checkpoint.tensors.is_empty() {
            return Err(Error::format(path, FORMAT, "it holds no tensors"));
        }
        Ok(checkpoint)
    }

    /// [`Checkpoint::read`] for the tensors whose names are `wanted`, of which there may be none; the others are not
    /// kept in memory.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read`].
    pub fn read_some(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Checkpoint> {
        Checkpoint::take(path, Way::Read, wanted)
    }

    fn take(path: &Path, way: Way, wanted: &dyn Fn(&str) -> bool) -> Result<Checkpoint> {
        let of_pytorch = pytorch(path, way, wanted)?;
        let (path, names) = (path.to_owned(), Names::OpenAi);
        if let Some(torch::Contents { tensors, epoch, note, torch_script, activation, .. }) = of_pytorch {
            let format = if torch_script { Format::TorchScript } else { Format::TorchSave };
            let said = BackboneOptions { activation, ..BackboneOptions::default() };
            return Ok(Checkpoint { path, format, names, note, epoch, said, tensors });
        }
        let mapped = way.map(&File::open(&path).map_err(Error::io("read", &path))?);
        let (note, tensors) = match mapped {
            Some(bytes) => safetensors(&bytes, wanted, |data| bytes.slice_ref(data)),
            None => {
                let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
                safetensors(&bytes, wanted, Bytes::copy_from_slice)
            }
        }
        .map_err(|error| Error::format(&path, FORMAT, error))?;
        let said = said(note.as_deref());
        Ok(Checkpoint { path, format: Format::SafeTensors, names, note, epoch: None, said, tensors })
    }

    /// The text kept beside the tensors of a file, whose values are not read.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read`].
    pub fn read_note(path: &Path) -> Result<Option<String>> {
        match pytorch(path, Way::Read, &|_| false)? {
            Some(torch::Contents { note, .. }) => Ok(note),
            None => Ok(header(path)?.metadata().as_ref().and_then(|entries| entries.get(NOTE).cloned())),
        }
    }

    /// CLIP's tensors under OpenAI's names, whatever they had; what is no weight is left out.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read`], and when a weight is no floating-point number.
    pub fn read_clip(path: &Path) -> Result<Checkpoint> {
        Checkpoint::take_all(path, Way::Read)?.into_clip()
    }

    /// [`Checkpoint::read_clip`], with tensors that stay in the file until they are used, where the file has them in one piece
    /// (safetensors, and PyTorch's archives). A file that becomes shorter meanwhile ends the process, so this is for workers.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read_clip`].
    pub fn map_clip(path: &Path) -> Result<Checkpoint> {
        Checkpoint::take_all(path, Way::Map)?.into_clip()
    }

    fn into_clip(self) -> Result<Checkpoint> {
        let checkpoint = self;
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

    /// The bytes of a safetensors file with these tensors, which says of itself what is `known` of the model. A program that
    /// maps the file may use the tensors where they are: each begins at a multiple of [`ALIGNMENT`], but for those behind one of an
    /// odd length, which come last.
    ///
    /// # Errors
    /// When an array's bytes are not as many as its shape asks for.
    pub fn to_bytes(&self, known: &Known) -> Result<Vec<u8>> {
        let note = serde_json::to_string(&Note { backbone: known.options() }).expect("plain data");
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by_key(|(_, array)| !array.bytes.len().is_multiple_of(ALIGNMENT));
        let mut end = 0;
        let infos = tensors.iter().map(|(name, array)| {
            let start = end;
            end += array.bytes.len();
            let shape = array.shape.iter().map(|length| *length as usize).collect();
            ((*name).clone(), TensorInfo { dtype: array.dtype, shape, data_offsets: (start, end) })
        });
        let metadata = HashMap::from([(NOTE.to_owned(), note)]);
        let metadata = Metadata::new(Some(metadata), infos.collect()).map_err(not_written)?;
        let mut header = serde_json::to_vec(&metadata).expect("plain data");
        header.resize((LENGTH + header.len()).next_multiple_of(ALIGNMENT) - LENGTH, b' ');
        let values = tensors.iter().map(|(_, array)| &*array.bytes);
        let mut bytes = Vec::with_capacity(LENGTH + header.len() + end);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        values.for_each(|values| bytes.extend(values));
        Ok(bytes)
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
        let Shapes { origin, said, shapes } = Shapes::read(path)?;
        let (shapes, _) = names::openai(shapes);
        Ok(Shapes { origin, said, shapes })
    }

    /// The names and shapes of all tensors in a file, as they stand there, and what it says of the model. The values are
    /// not read.
    ///
    /// # Errors
    /// When the file cannot be read or its format is none of [`Format`].
    pub fn read(path: &Path) -> Result<Shapes> {
        let (shapes, said) = match pytorch(path, Way::Read, &|_| false)? {
            Some(torch::Contents { shapes, activation, .. }) => {
                (shapes, BackboneOptions { activation, ..BackboneOptions::default() })
            }
            None => {
                let metadata = header(path)?;
                let shapes = metadata.tensors().into_iter().map(|(name, info)| Ok((name, shape(&info.shape)?)));
                let shapes =
                    shapes.collect::<Result<_, String>>().map_err(|error| Error::format(path, FORMAT, error))?;
                let note = metadata.metadata().as_ref().and_then(|entries| entries.get(NOTE));
                (shapes, said(note.map(String::as_str)))
            }
        };
        Ok(Shapes { origin: format!("the weights `{}`", path.display()), said, shapes })
    }
}

/// How the values of tensors come out of a file.
#[derive(Clone, Copy)]
enum Way {
    /// They are read into memory.
    Read,
    /// They are where the file is mapped; a file system that maps no files has them read.
    Map,
}

impl Way {
    /// The bytes of a file that is mapped.
    fn map(self, file: &File) -> Option<Bytes> {
        match self {
            Way::Read => None,
            Way::Map => {
                // SAFETY: artifacts are replaced and never changed. Who writes to a file of the user's while a node reads it
                // changes what is computed, as with any other way to read; the node fails for it, because its inputs are
                // compared with its key once more behind it.
                #[expect(unsafe_code, reason = "others could change the file")]
                let map = unsafe { Mmap::map(file) };
                map.ok().map(Bytes::from_owner)
            }
        }
    }
}

/// What a file of PyTorch's holds; `None` for one of safetensors.
fn pytorch(path: &Path, way: Way, wanted: &dyn Fn(&str) -> bool) -> Result<Option<torch::Contents>> {
    let (file, start) = mistaken::open(path)?;
    let read = if start.starts_with(b"PK\x03\x04") {
        let mapped = way.map(&file);
        torch::read_archive(file, mapped.as_ref(), wanted)
    } else if start.starts_with(torch::PLAIN) {
        torch::read_plain(file, wanted)
    } else if start.get(LENGTH) == Some(&b'{') {
        return Ok(None);
    } else {
        return Err(mistaken::unknown(path, &start));
    };
    read.map(Some).map_err(|message| Error::format(path, FORMAT, message))
}

/// What a safetensors file holds before its values.
fn header(path: &Path) -> Result<Metadata> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let wrong = |message: String| Error::format(path, FORMAT, message);
    let mut length = [0; LENGTH];
    file.read_exact(&mut length).map_err(Error::io("read", path))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err(wrong(SafeTensorError::HeaderTooLarge.to_string()));
    }
    let mut header = Vec::new();
    let read = file.take(length).read_to_end(&mut header).map_err(Error::io("read", path))?;
    if (read as u64) < length {
        return Err(wrong(cut_off()));
    }
    serde_json::from_slice(&header)
        .map_err(|error| wrong(SafeTensorError::InvalidHeaderDeserialization(error).to_string()))
}

/// The lengths of a tensor's axes.
fn shape(lengths: &[usize]) -> Result<Vec<i64>, String> {
    let lengths = lengths.iter().map(|length| i64::try_from(*length));
    lengths.collect::<Result<_, _>>().map_err(|_| "it has an axis that is longer than any".to_owned())
}

/// What a note says of the model; other notes say nothing of it.
fn said(note: Option<&str>) -> BackboneOptions {
    note.and_then(|note| serde_json::from_str::<Note>(note).ok())
        .map_or_else(BackboneOptions::default, |note| note.backbone)
}

/// The note and the tensors of a safetensors file; `keep` makes values of what lies in it.
fn safetensors(
    bytes: &[u8],
    wanted: &dyn Fn(&str) -> bool,
    keep: impl Fn(&[u8]) -> Bytes,
) -> Result<(Option<String>, BTreeMap<String, Array>), String> {
    let told = |error: SafeTensorError| match error {
        SafeTensorError::InvalidHeaderLength | SafeTensorError::MetadataIncompleteBuffer => cut_off(),
        other => other.to_string(),
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(told)?;
    let note = metadata.metadata().as_ref().and_then(|entries| entries.get(NOTE).cloned());
    let mut tensors = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(bytes).map_err(told)?.tensors() {
        if wanted(&name) {
            let dtype = view.dtype();
            if dtype.bitsize() % 8 != 0 {
                return Err(format!("`{name}`: its numbers are {dtype}, which is not read"));
            }
            let shape = shape(view.shape()).map_err(|message| format!("`{name}`: {message}"))?;
            tensors.insert(name, Array { dtype, shape, bytes: keep(view.data()) });
        }
    }
    Ok((note, tensors))
}

/// The bytes of a safetensors file with a text beside the tensors; the same tensors give the same bytes.
///
/// # Errors
/// When an array's bytes are not as many as its shape asks for.
pub fn to_safetensors(tensors: &BTreeMap<String, Array>, note: Option<&str>) -> Result<Vec<u8>> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, array) in tensors {
        let shape = array.shape.iter().map(|length| *length as usize).collect();
        views.push((name, TensorView::new(array.dtype, shape, &array.bytes).map_err(not_written)?));
    }
    let metadata = note.map(|note| HashMap::from([(NOTE.to_owned(), note.to_owned())]));
    safetensors::serialize(views, metadata).map_err(not_written)
}

fn not_written(error: SafeTensorError) -> Error {
    Error::invalid(format!("the tensors cannot be written as safetensors: {error}"))
}
