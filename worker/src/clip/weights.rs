//! Named tensors in safetensors files: CLIP's weights under OpenAI's key names, and anything else kept that way.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use safetensors::Dtype;
use tch::{Kind, Tensor, no_grad};

use super::error::torch;
use crate::context::tensor_over;

use maple_pipe::error::{Error, Result};
use maple_pipe::weights::{ALIGNMENT, Array, Checkpoint, Shapes, to_safetensors};

/// Tensors by name, with where they come from.
#[derive(Debug)]
pub struct Weights {
    origin: String,
    tensors: BTreeMap<String, Tensor>,
    note: Option<String>,
}

impl Weights {
    /// Tensors that are in memory already; nothing is copied.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Weights {
        Weights { origin: "the weights".to_owned(), tensors: tensors.into_iter().collect(), note: None }
    }

    /// Reads a file of tensors to the CPU, each in the precision that it has there.
    ///
    /// # Errors
    /// When the file cannot be read or holds tensors that libtorch does not know.
    pub fn read(path: &Path) -> Result<Weights> {
        Weights::from_checkpoint(&Checkpoint::read(path)?)
    }

    /// The tensors of a checkpoint on the CPU, each in the precision that it has there. They share its memory where it lies as
    /// libtorch's own does, so they may not be written to.
    ///
    /// # Errors
    /// When libtorch does not know the kind of one.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Weights> {
        let origin = checkpoint.origin();
        let mut tensors = BTreeMap::new();
        for (name, array) in checkpoint.tensors() {
            let kind = kind(array.dtype)
                .ok_or_else(|| Error::invalid(format!("{origin} hold `{name}` as {}", array.dtype)))?;
            let tensor = tensor(&array.bytes, &array.shape, kind).map_err(torch)?;
            tensors.insert(name.clone(), tensor);
        }
        Ok(Weights { origin, tensors, note: checkpoint.note().map(str::to_owned) })
    }

    /// A free text to keep in the file beside the tensors.
    pub fn with_note(self, note: impl Into<String>) -> Weights {
        Weights { note: Some(note.into()), ..self }
    }

    /// The text kept beside the tensors.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Writes a safetensors file; the same tensors give the same bytes. Writing is not atomic.
    ///
    /// # Errors
    /// When the file cannot be written or a tensor's kind has no place in safetensors.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_bytes()?).map_err(Error::io("write", path))
    }

    /// The bytes of the safetensors file.
    ///
    /// # Errors
    /// When a tensor's kind has no place in safetensors.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut arrays = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            let dtype = dtype(tensor.kind())
                .ok_or_else(|| Error::invalid(format!("`{name}` is {:?}, which cannot be saved", tensor.kind())))?;
            let bytes = bytes(tensor).map_err(torch)?;
            arrays.insert(name.clone(), Array { dtype, shape: tensor.size(), bytes: bytes.into() });
        }
        to_safetensors(&arrays, self.note())
    }

    /// Where the tensors come from, as it reads in a message: "the weights `file`".
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The names and shapes.
    pub fn shapes(&self) -> Shapes {
        Shapes::new(self.origin.clone(), self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())))
    }
}

/// A tensor of these values, which are copied where they do not lie as libtorch's own do: products of others may be summed in
/// another order.
fn tensor(bytes: &Bytes, shape: &[i64], kind: Kind) -> Result<Tensor, tch::TchError> {
    let lies_well = !bytes.is_empty() && bytes.as_ptr().addr().is_multiple_of(ALIGNMENT);
    match lies_well.then(|| tensor_over(bytes.clone())).flatten() {
        Some(shared) => no_grad(|| shared.f_view_dtype(kind)?.f_view(shape)),
        None => Tensor::f_from_data_size(bytes, shape, kind),
    }
}

/// A tensor's values as bytes, row-major.
fn bytes(tensor: &Tensor) -> Result<Vec<u8>, tch::TchError> {
    let tensor = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

fn kind(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| *known == dtype).map(|(_, kind)| *kind)
}

fn dtype(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(_, known)| *known == kind).map(|(dtype, _)| *dtype)
}

/// The number formats that safetensors and libtorch share.
const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F64, Kind::Double),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Weights {
        let values = Tensor::from_slice(&[1.5f32, -2.0, 0.25, 8.0, 3.0, 4.0]).reshape([2, 3]);
        Weights::from_tensors([("a".to_owned(), values.to_kind(Kind::Half)), ("b".to_owned(), values.tr())])
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        example().with_note("{\"epoch\":3}").write(&path).unwrap();
        let read = Weights::read(&path).unwrap();
        assert_eq!(read.note(), Some("{\"epoch\":3}"));
        for (name, tensor) in example().iter() {
            assert_eq!(read.get(name).unwrap(), tensor, "{name}");
            assert_eq!(read.get(name).unwrap().kind(), tensor.kind());
        }
        assert_eq!(read.with_note("{\"epoch\":3}").to_bytes().unwrap(), std::fs::read(&path).unwrap());
    }

    #[test]
    fn tensors_share_memory_that_lies_as_their_own_and_keep_it() {
        let values: Vec<f32> = (0..64).map(|value| value as f32).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        #[expect(unsafe_code, reason = "mapping a file is unsafe because others could change it")]
        // SAFETY: nobody else knows of the file.
        let mapped = Bytes::from_owner(unsafe { memmap2::Mmap::map(file.as_file()) }.unwrap());
        for (start, shares) in [(0, true), (64, true), (4, false), (32, false)] {
            let part = mapped.slice(start..start + 96);
            let (address, expected) = (part.as_ptr().addr(), &values[start / 4..start / 4 + 24]);
            let found = tensor(&part, &[2, 3, 4], Kind::Float).unwrap();
            drop(part);
            assert_eq!(found.data_ptr().addr() == address, shares, "{start}");
            let part_of_it = found.select(0, 1);
            drop(found);
            assert_eq!(Vec::<f32>::try_from(part_of_it.reshape([-1])).unwrap(), expected[12..], "{start}");
        }
        drop(mapped);
        assert_eq!(tensor(&Bytes::new(), &[0, 3], Kind::Half).unwrap().size(), [0, 3]);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let bytes = example().to_bytes().unwrap();
        for length in [0, 4, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let message = Weights::read(&path).unwrap_err().to_string();
            let expected = if length == 0 { "is empty, not a checkpoint" } else { "is not a valid checkpoint" };
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn every_format_of_numbers_is_read_as_itself() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/weights/archive.pth");
        let read = Weights::read(Path::new(path)).unwrap();
        let formats = [
            ("single", Kind::Float),
            ("half", Kind::Half),
            ("brain", Kind::BFloat16),
            ("double", Kind::Double),
            ("long", Kind::Int64),
            ("int", Kind::Int),
            ("short", Kind::Int16),
            ("char", Kind::Int8),
            ("byte", Kind::Uint8),
            ("bool", Kind::Bool),
        ];
        for (name, kind) in formats {
            let tensor = read.get(name).unwrap();
            let last = tensor.to_kind(Kind::Double).flatten(0, -1).double_value(&[-1]);
            let expected = match name {
                "single" => 1.75,
                "half" | "brain" | "double" => 0.0,
                "bool" => 0.0,
                _ => 2.0,
            };
            assert_eq!((tensor.kind(), last), (kind, expected), "{name}");
        }
    }
}
