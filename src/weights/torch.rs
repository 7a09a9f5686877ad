//! Reads the tensors of PyTorch's files: TorchScript archives, and what `torch.save` writes (zip archives, and the plain
//! pickles of PyTorch before 1.6). Nothing in them is executed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};

use bytes::Bytes;
use flate2::Crc;
use safetensors::Dtype;
use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::NOTE;
use super::array::{self, Array};
use super::pickle::{Id, Pickle, Value, cut_off};
use crate::backbone::Activation;

/// What a plain pickle file begins with: protocol 2 and PyTorch's number.
pub(super) const PLAIN: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
/// The entries of a checkpoint that hold the model, among others such as the optimizer's state.
const MODEL: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];
/// PyTorch's classes of storages, and the numbers that they hold.
const STORAGES: [(&str, Dtype); 10] = [
    ("FloatStorage", Dtype::F32),
    ("HalfStorage", Dtype::F16),
    ("BFloat16Storage", Dtype::BF16),
    ("DoubleStorage", Dtype::F64),
    ("LongStorage", Dtype::I64),
    ("IntStorage", Dtype::I32),
    ("ShortStorage", Dtype::I16),
    ("CharStorage", Dtype::I8),
    ("ByteStorage", Dtype::U8),
    ("BoolStorage", Dtype::BOOL),
];
/// What a pickled module holds its tensors and its parts in.
const PARTS: [&str; 3] = ["_parameters", "_buffers", "_modules"];
/// How deep modules may lie in each other.
const DEEPEST: usize = 64;
/// The most axes of a tensor, as PyTorch has it.
const MOST_AXES: usize = 64;

/// How much larger than the file its tensors may be together, since several may show the same numbers, and what they may
/// be in any case.
const RATIO: u64 = 4;
const ALLOWANCE: u64 = 1 << 20;
/// How long the names of all tensors and modules may be together, for each value of the pickle and in any case. Parts
/// that several modules share have several names.
const NAME: usize = 64;
const NAMES: usize = 1 << 20;

type Tensors = BTreeMap<String, Array>;

/// What a file of PyTorch's holds.
pub(super) struct Contents {
    /// Those that were wanted.
    pub tensors: Tensors,
    /// The shapes of all tensors.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// The entry `epoch` beside the model.
    pub epoch: Option<i64>,
    /// The text of ours.
    pub note: Option<String>,
    pub torch_script: bool,
    /// The activation whose class is among the modules of a TorchScript archive.
    pub activation: Option<Activation>,
}

/// Reads those tensors of a zip archive whose names are wanted. Where its bytes are `mapped`, the values stay there.
pub(super) fn read_archive(
    file: File,
    mapped: Option<&Bytes>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Contents, String> {
    let length = length(&file)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| match error {
        ZipError::InvalidArchive(_) => cut_off(),
        other => other.to_string(),
    })?;
    // PyTorch compresses nothing, so its entries together are no longer than the file. One that swells, or many that lie
    // over each other, would fill the memory.
    let mut left = length;
    let names = archive.file_names().filter_map(Result::ok);
    let data = names.filter_map(|name| Some(name.strip_suffix("/data.pkl")?.to_owned())).next();
    let folder = data.ok_or("the archive holds no `data.pkl`, so PyTorch did not write it")?;
    let mut entry = |name: String| -> Result<Bytes, String> {
        let entry = archive.by_name(&name).map_err(|error| format!("`{name}`: {error}"))?;
        let bytes = match mapped.and_then(|mapped| part(mapped, &entry)) {
            Some(bytes) => bytes,
            None => {
                let mut bytes = Vec::new();
                entry.take(left + 1).read_to_end(&mut bytes).map_err(|error| format!("`{name}`: {error}"))?;
                bytes.into()
            }
        };
        let swells = || format!("`{name}`: its entries hold more than the file, and PyTorch compresses nothing");
        left = left.checked_sub(bytes.len() as u64).ok_or_else(swells)?;
        Ok(bytes)
    };
    let pickle = Pickle::read(&mut &*entry(format!("{folder}/data.pkl"))?)?;
    if entry(format!("{folder}/byteorder")).is_ok_and(|order| order != b"little"[..]) {
        return Err("its numbers are big-endian, which is not read".to_owned());
    }
    let torch_script = entry(format!("{folder}/constants.pkl")).is_ok();
    let views = views(&pickle)?;
    let shapes = shapes(&views);
    let tensors = build(views, wanted, length, |key| entry(format!("{folder}/data/{key}")))?;
    let activation = activation(&pickle).filter(|_| torch_script);
    let (epoch, note) = (epoch(&pickle), note(&pickle));
    Ok(Contents { tensors, shapes, epoch, note, torch_script, activation })
}

/// Reads a plain pickle file: a number, a version, a description of the machine, the object, the keys of its storages,
/// and these.
pub(super) fn read_plain(file: File, wanted: &dyn Fn(&str) -> bool) -> Result<Contents, String> {
    let length = length(&file)?;
    let mut input = BufReader::new(file);
    for _ in 0..3 {
        Pickle::read(&mut input)?;
    }
    let object = Pickle::read(&mut input)?;
    let formats: HashMap<&str, Dtype> = object
        .values()
        .filter_map(
            |value| if let Value::Persistent(reference) = value { storage(&object, *reference).ok() } else { None },
        )
        .map(|storage| (storage.key, storage.dtype))
        .collect();
    let views = views(&object)?;
    let (shapes, epoch, note) = (shapes(&views), epoch(&object), note(&object));
    if !views.keys().any(|name| wanted(name)) {
        return Ok(Contents { tensors: Tensors::new(), shapes, epoch, note, torch_script: false, activation: None });
    }
    let keys = Pickle::read(&mut input)?;
    let mut storages = HashMap::new();
    for key in keys.items(keys.root).ok_or("it does not list its storages")? {
        let key = keys.text(*key).ok_or("it has a storage without a key")?;
        let dtype = *formats.get(key).ok_or_else(|| format!("nothing refers to its storage `{key}`"))?;
        let mut count = [0; 8];
        input.read_exact(&mut count).map_err(|_| cut_off())?;
        let length = u64::from_le_bytes(count).checked_mul(array::size(dtype) as u64).ok_or("a storage is too long")?;
        let mut bytes = Vec::new();
        let read = input.by_ref().take(length).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if (read as u64) < length {
            return Err(cut_off());
        }
        storages.insert(key.to_owned(), Bytes::from(bytes));
    }
    let tensors = build(views, wanted, length, |key| {
        storages.remove(key).ok_or_else(|| format!("it lacks the storage `{key}`"))
    })?;
    Ok(Contents { tensors, shapes, epoch, note, torch_script: false, activation: None })
}

/// The content of an archive's entry, where the archive is mapped; nothing of one that is compressed, or not whole: reading it
/// says what is wrong.
fn part(mapped: &Bytes, entry: &ZipFile<'_, BufReader<File>>) -> Option<Bytes> {
    let start = usize::try_from(entry.data_start()?).ok()?;
    let end = start.checked_add(usize::try_from(entry.size()).ok()?)?;
    if entry.compression() != CompressionMethod::Stored || entry.compressed_size() != entry.size() {
        return None;
    }
    let bytes = mapped.get(start..end)?;
    let mut checksum = Crc::new();
    checksum.update(bytes);
    (checksum.sum() == entry.crc32()).then(|| mapped.slice_ref(bytes))
}

fn length(file: &File) -> Result<u64, String> {
    Ok(file.metadata().map_err(|error| error.to_string())?.len())
}

/// The activation of which a module is an instance: OpenAI's archives name their class `QuickGELU`.
fn activation(pickle: &Pickle) -> Option<Activation> {
    let mut classes = pickle.values().filter_map(|value| match value {
        Value::Global(name) => name.rsplit('.').next(),
        _ => None,
    });
    classes.find_map(|class| match class {
        "QuickGELU" => Some(Activation::QuickGelu),
        "GELU" => Some(Activation::Gelu),
        _ => None,
    })
}

fn epoch(pickle: &Pickle) -> Option<i64> {
    pickle.integer(pickle.entry(pickle.root, "epoch")?)
}

fn note(pickle: &Pickle) -> Option<String> {
    pickle.text(pickle.entry(pickle.root, NOTE)?).map(str::to_owned)
}

/// The class of PyTorch's storages for these numbers.
pub(super) fn storage_class(dtype: Dtype) -> Option<&'static str> {
    STORAGES.iter().find(|(_, known)| *known == dtype).map(|(class, _)| *class)
}

/// Where a storage's bytes are, and what they are.
struct Storage<'a> {
    key: &'a str,
    dtype: Dtype,
}

/// A tensor as a view of a storage, in numbers and not in bytes.
struct View<'a> {
    storage: Storage<'a>,
    offset: i64,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

/// Finds the tensors of the model that a pickle holds.
fn views(pickle: &Pickle) -> Result<BTreeMap<String, View<'_>>, String> {
    let left = NAME * pickle.values().len() + NAMES;
    let mut modules = Modules { pickle, views: BTreeMap::new(), left };
    modules.collect(model(pickle), "", 0)?;
    Ok(modules.views)
}

/// The model among what a checkpoint keeps beside it.
fn model(pickle: &Pickle) -> Id {
    let holds = |id: &Id| matches!(pickle.get(*id), Value::Dict(_) | Value::Call { .. });
    let inner = |id: Id| MODEL.iter().find_map(|entry| pickle.entry(id, entry).filter(holds));
    (0..DEEPEST).try_fold(pickle.root, |id, _| inner(id).ok_or(id)).unwrap_or_else(|id| id)
}

fn shapes(views: &BTreeMap<String, View>) -> BTreeMap<String, Vec<i64>> {
    views.iter().map(|(name, view)| (name.clone(), view.shape.clone())).collect()
}

/// Reads the storages of the wanted tensors, each once.
fn build(
    views: BTreeMap<String, View>,
    wanted: &dyn Fn(&str) -> bool,
    file_length: u64,
    mut read: impl FnMut(&str) -> Result<Bytes, String>,
) -> Result<Tensors, String> {
    let mut by_storage: BTreeMap<String, Vec<(String, View)>> = BTreeMap::new();
    for (name, view) in views.into_iter().filter(|(name, _)| wanted(name)) {
        by_storage.entry(view.storage.key.to_owned()).or_default().push((name, view));
    }
    let mut tensors = Tensors::new();
    let mut left = RATIO * file_length + ALLOWANCE;
    for (key, views) in by_storage {
        let bytes = read(&key)?;
        for (name, view) in views {
            let array = view.array(&bytes).map_err(|message| format!("`{name}`: {message}"))?;
            let fill = || format!("`{name}`: its tensors hold more than {RATIO} times what the file does");
            left = left.checked_sub(array.bytes.len() as u64).ok_or_else(fill)?;
            tensors.insert(name, array);
        }
    }
    Ok(tensors)
}

/// A walk over modules. Whatever lies in several others is visited there, too: it has a name in each.
struct Modules<'a> {
    pickle: &'a Pickle,
    views: BTreeMap<String, View<'a>>,
    /// How long further names may be, so that modules that hold each other often cannot make it endless.
    left: usize,
}

impl<'a> Modules<'a> {
    /// Puts the tensors at and below `id` into the views, under their dotted names.
    fn collect(&mut self, id: Id, name: &str, depth: usize) -> Result<(), String> {
        let pickle = self.pickle;
        if depth > DEEPEST {
            return Err(format!("`{name}` lies deeper than {DEEPEST} modules"));
        }
        let many = || "its modules hold each other so often that their names have no end".to_owned();
        self.left = self.left.checked_sub(name.len() + 1).ok_or_else(many)?;
        if let Some(view) = tensor(pickle, id, depth).map_err(|message| format!("`{name}`: {message}"))? {
            self.views.insert(name.to_owned(), view);
            return Ok(());
        }
        // A module keeps its parts in a dictionary that is its state; the state of a dictionary is no part of it.
        let parts = match pickle.get(id) {
            Value::Call { state: Some(state), .. } if pickle.entries(id).is_none() => *state,
            _ => id,
        };
        // That of a pickled module has more in it.
        let inner: Vec<Id> = PARTS.iter().filter_map(|part| pickle.entry(parts, part)).collect();
        for part in if inner.is_empty() { vec![parts] } else { inner } {
            for (key, value) in pickle.entries(part).unwrap_or_default() {
                if let Some(key) = pickle.text(*key) {
                    let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
                    self.collect(*value, &name, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

/// The tensor at `id`, if it is one.
fn tensor<'a>(pickle: &'a Pickle, id: Id, depth: usize) -> Result<Option<View<'a>>, String> {
    let Value::Call { callee, arguments, .. } = pickle.get(id) else { return Ok(None) };
    let Some(function) = pickle.global(*callee).and_then(|name| name.strip_prefix("torch._utils._rebuild_")) else {
        return Ok(None);
    };
    let arguments = pickle.items(*arguments).unwrap_or_default();
    match (function, arguments) {
        ("tensor_v2" | "tensor", [storage_id, offset, shape, strides, ..]) => {
            let Value::Persistent(reference) = pickle.get(*storage_id) else {
                return Err("it has no storage".to_owned());
            };
            let numbers = |id: &Id| -> Option<Vec<i64>> {
                pickle.items(*id)?.iter().map(|number| pickle.integer(*number)).collect()
            };
            let (Some(offset), Some(shape), Some(strides)) =
                (pickle.integer(*offset), numbers(shape), numbers(strides))
            else {
                return Err("its shape is not numbers".to_owned());
            };
            if shape.len() > MOST_AXES || shape.iter().any(|length| *length < 0) {
                return Err(format!("it has {} axes, or one that is shorter than nothing", shape.len()));
            }
            Ok(Some(View { storage: storage(pickle, *reference)?, offset, shape, strides }))
        }
        ("parameter" | "parameter_with_state", [inner, ..]) if depth <= DEEPEST => tensor(pickle, *inner, depth + 1),
        _ => Err(format!("it is made by `_rebuild_{function}`, which is not read")),
    }
}

/// The storage that a reference names: `("storage", class, key, device, count)`.
fn storage(pickle: &Pickle, reference: Id) -> Result<Storage<'_>, String> {
    let parts = pickle.items(reference).unwrap_or_default();
    let (Some(class), Some(key)) =
        (parts.get(1).and_then(|id| pickle.global(*id)), parts.get(2).and_then(|id| pickle.text(*id)))
    else {
        return Err("it has no storage".to_owned());
    };
    let name = class.strip_prefix("torch.");
    let known = STORAGES.iter().find(|(class, _)| Some(*class) == name);
    let (_, dtype) = *known.ok_or_else(|| format!("its numbers are `{class}`, which is not read"))?;
    Ok(Storage { key, dtype })
}

impl View<'_> {
    /// The values, row-major, out of the storage's bytes; they are shared where they lie there in one piece.
    fn array(&self, bytes: &Bytes) -> Result<Array, String> {
        let (dtype, size) = (self.storage.dtype, array::size(self.storage.dtype));
        let available = (bytes.len() / size) as i64;
        let outside = || format!("its shape {:?} does not fit its storage of {available} numbers", self.shape);
        let count = self.shape.iter().try_fold(1i64, |count, axis| count.checked_mul(*axis)).ok_or_else(outside)?;
        let axes = self.shape.iter().chain(&self.strides);
        if self.shape.len() != self.strides.len() || axes.chain([&self.offset]).any(|number| *number < 0) {
            return Err(outside());
        }
        let array = |bytes| Array { dtype, shape: self.shape.clone(), bytes };
        if count == 0 {
            return Ok(array(Bytes::new()));
        }
        let reach = |last: i64, (length, stride): (&i64, &i64)| last.checked_add((length - 1).checked_mul(*stride)?);
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, reach);
        if count > available || last.is_none_or(|last| last >= available) {
            return Err(outside());
        }
        // Rows of the last axes that lie in one piece are copied whole.
        let (mut whole, mut piece) = (self.shape.len(), 1);
        while whole > 0 && (self.strides[whole - 1] == piece || self.shape[whole - 1] == 1) {
            whole -= 1;
            piece *= self.shape[whole];
        }
        if piece == count {
            let start = self.offset as usize * size;
            return Ok(array(bytes.slice(start..start + count as usize * size)));
        }
        let mut values = Vec::with_capacity(count as usize * size);
        let mut index = vec![0; whole];
        for _ in 0..count / piece {
            let start =
                self.offset + index.iter().zip(&self.strides).map(|(place, stride)| place * stride).sum::<i64>();
            let start = start as usize * size;
            values.extend(&bytes[start..start + piece as usize * size]);
            for axis in (0..whole).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(array(values.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(offset: i64, shape: &[i64], strides: &[i64]) -> View<'static> {
        let storage = Storage { key: "0", dtype: Dtype::U8 };
        View { storage, offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    #[test]
    fn an_archive_that_swells_is_refused() {
        use std::io::Write;
        let mut writer = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file("model/data.pkl", options).unwrap();
        writer.write_all(&vec![0; 1 << 20]).unwrap();
        let file = writer.finish().unwrap();
        assert!(file.metadata().unwrap().len() < 1 << 14);
        let message = read_archive(file, None, &|_| true).err().unwrap();
        assert!(message.contains("`model/data.pkl`: its entries hold more than the file"), "{message}");
    }

    #[test]
    fn views_of_a_storage_are_made_row_major() {
        let bytes: Bytes = (0..24).collect();
        let values = |view: View| view.array(&bytes).unwrap().bytes.to_vec();
        assert_eq!(values(view(0, &[2, 3, 4], &[12, 4, 1])), bytes);
        assert_eq!(values(view(5, &[2, 2], &[4, 1])), [5, 6, 9, 10]);
        assert_eq!(values(view(0, &[3, 2], &[1, 3])), [0, 3, 1, 4, 2, 5]);
        assert_eq!(values(view(2, &[2, 1, 2], &[10, 99, 1])), [2, 3, 12, 13]);
        assert_eq!(values(view(7, &[], &[])), [7]);
        assert_eq!(values(view(3, &[4], &[0])), [3, 3, 3, 3]);
        assert!(values(view(0, &[0, 5], &[5, 1])).is_empty());
    }

    #[test]
    fn views_beyond_their_storage_are_refused() {
        for view in [
            view(0, &[25], &[1]),
            view(1, &[24], &[1]),
            view(0, &[2, 2], &[23, 2]),
            view(-1, &[1], &[1]),
            view(0, &[2], &[-1]),
            view(0, &[2], &[i64::MAX]),
            view(0, &[i64::MAX, 3], &[0, 0]),
            view(0, &[1 << 40], &[0]),
            view(0, &[2, 2], &[1]),
        ] {
            let message = view.array(&Bytes::from_static(&[0; 24])).unwrap_err();
            assert!(message.contains("does not fit its storage of 24 numbers"), "{message}");
        }
    }
}
