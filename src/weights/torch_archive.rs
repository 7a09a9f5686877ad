//! Writes checkpoints as `torch.save` does since PyTorch 1.6: a zip archive of a pickle and of the values that it refers to.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use zip::result::{ZipError, ZipResult};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::NOTE;
use super::array::Array;
use super::torch::storage_class;
use crate::error::{Error, Result};

/// The folder of all entries; PyTorch reads any.
const FOLDER: &str = "archive";
/// The version of the archive's layout, as PyTorch 2 has it.
const VERSION: &str = "3\n";
/// Where values begin in the archive: at multiples of so many bytes, as PyTorch has it.
const ALIGNMENT: u16 = 64;

/// The bytes of a checkpoint with the entries `state_dict`, `epoch` and `val_result`, as Dassl saves one without a result on
/// validation images, and with a text in an entry of our own, which PyTorch keeps and Dassl does not read. The same tensors give
/// the same bytes. `torch.load` reads it with `weights_only=True`, too.
///
/// # Errors
/// When PyTorch has no storage for a tensor's numbers.
pub fn to_torch_archive(state_dict: &BTreeMap<String, Array>, epoch: u32, note: &str) -> Result<Vec<u8>> {
    let mut pickle = Pickler::new();
    pickle.empty_dict().mark();
    pickle.text("state_dict").ordered_dict().mark();
    for (place, (name, array)) in state_dict.iter().enumerate() {
        let class = storage_class(array.dtype).ok_or_else(|| {
            Error::invalid(format!("`{name}` holds {}, which PyTorch has no storage for", array.dtype))
        })?;
        pickle.text(name).tensor(&place.to_string(), class, array);
    }
    pickle.set_items();
    pickle.text("epoch").integer(epoch.into());
    pickle.text("val_result").none();
    pickle.text(NOTE).text(note);
    pickle.set_items();
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut entry = |name: &str, bytes: &[u8]| -> ZipResult<()> {
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
        archive.start_file(format!("{FOLDER}/{name}"), options)?;
        Ok(archive.write_all(bytes)?)
    };
    let write = || -> ZipResult<()> {
        entry("data.pkl", &pickle.finish())?;
        entry("byteorder", b"little")?;
        for (place, array) in state_dict.values().enumerate() {
            entry(&format!("data/{place}"), &array.bytes)?;
        }
        entry("version", VERSION.as_bytes())
    };
    let not_written =
        |error: ZipError| Error::invalid(format!("the tensors cannot be written as a zip archive: {error}"));
    write().map_err(not_written)?;
    Ok(archive.finish().map_err(not_written)?.into_inner())
}

/// A pickle of protocol 2 on its way.
struct Pickler(Vec<u8>);

impl Pickler {
    fn new() -> Pickler {
        Pickler(vec![0x80, 2])
    }

    fn add(&mut self, bytes: &[u8]) -> &mut Pickler {
        self.0.extend(bytes);
        self
    }

    fn empty_dict(&mut self) -> &mut Pickler {
        self.add(b"}")
    }

    fn ordered_dict(&mut self) -> &mut Pickler {
        self.global("collections", "OrderedDict").add(b")R")
    }

    /// The items behind it, up to [`Pickler::set_items`] or [`Pickler::tuple`], belong together.
    fn mark(&mut self) -> &mut Pickler {
        self.add(b"(")
    }

    /// Puts keys and values into the dictionary in front of the mark.
    fn set_items(&mut self) -> &mut Pickler {
        self.add(b"u")
    }

    fn tuple(&mut self) -> &mut Pickler {
        self.add(b"t")
    }

    fn none(&mut self) -> &mut Pickler {
        self.add(b"N")
    }

    fn text(&mut self, text: &str) -> &mut Pickler {
        let length = u32::try_from(text.len()).expect("no text is as long");
        self.add(b"X").add(&length.to_le_bytes()).add(text.as_bytes())
    }

    fn integer(&mut self, number: i64) -> &mut Pickler {
        match i32::try_from(number) {
            Ok(small) => self.add(b"J").add(&small.to_le_bytes()),
            Err(_) => self.add(&[0x8a, 8]).add(&number.to_le_bytes()),
        }
    }

    fn integers(&mut self, numbers: &[i64]) -> &mut Pickler {
        self.mark();
        for number in numbers {
            self.integer(*number);
        }
        self.tuple()
    }

    fn global(&mut self, module: &str, name: &str) -> &mut Pickler {
        self.add(format!("c{module}\n{name}\n").as_bytes())
    }

    /// What PyTorch calls to make a tensor of a storage, which holds the values in one piece, row-major.
    fn tensor(&mut self, key: &str, storage_class: &str, array: &Array) -> &mut Pickler {
        self.global("torch._utils", "_rebuild_tensor_v2").mark();
        self.mark().text("storage").global("torch", storage_class).text(key).text("cpu");
        self.integer(array.count() as i64).tuple().add(b"Q");
        self.integer(0).integers(&array.shape).integers(&strides(&array.shape));
        // It asks for no gradient, and has no hooks.
        self.add(&[0x89]).ordered_dict().tuple().add(b"R")
    }

    fn finish(self) -> Vec<u8> {
        let mut bytes = self.0;
        bytes.push(b'.');
        bytes
    }
}

/// How many values lie between neighbours along each axis of a row-major array.
fn strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::*;
    use crate::weights::Checkpoint;

    #[test]
    fn what_is_written_is_read_again() {
        let array = |dtype, shape: &[i64], bytes: Vec<u8>| Array { dtype, shape: shape.to_vec(), bytes: bytes.into() };
        let state_dict = BTreeMap::from([
            ("a.weight".to_owned(), array(Dtype::F16, &[2, 3], (0..12).collect())),
            ("bias".to_owned(), array(Dtype::BF16, &[2], vec![1, 2, 3, 4])),
            ("empty".to_owned(), array(Dtype::F32, &[0, 3], Vec::new())),
            ("scale".to_owned(), array(Dtype::F64, &[], vec![7; 8])),
            ("count".to_owned(), array(Dtype::I64, &[1, 1], vec![9; 8])),
        ]);
        let bytes = to_torch_archive(&state_dict, 200, "a note of ä").unwrap();
        assert_eq!(bytes, to_torch_archive(&state_dict, 200, "a note of ä").unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let read = Checkpoint::read(file.path()).unwrap();
        assert_eq!(read.tensors(), &state_dict);
        assert_eq!((read.epoch(), read.note()), (Some(200), Some("a note of ä")));
        let quarter = array(Dtype::F4, &[2], vec![0]);
        let message = to_torch_archive(&BTreeMap::from([("q".to_owned(), quarter)]), 1, "").unwrap_err().to_string();
        assert_eq!(message, "`q` holds F4, which PyTorch has no storage for");
    }

    #[test]
    fn large_numbers_have_their_own_form() {
        let mut pickle = Pickler::new();
        pickle.integer(1 << 40);
        assert_eq!(pickle.finish(), b"\x80\x02\x8a\x08\0\0\0\0\0\x01\0\0.");
        assert_eq!((strides(&[2, 3, 4]), strides(&[]), strides(&[0, 5])), (vec![12, 4, 1], vec![], vec![5, 1]));
    }
}
