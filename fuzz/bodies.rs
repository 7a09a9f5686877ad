//! What must hold whatever bytes a file consists of: one function per fuzz target.
//!
//! The targets (`fuzz_targets/`) give them what libFuzzer makes up, and `tests/fuzz.rs` what stands in `corpus/` and
//! what becomes of it by a few changes. They need what a crate's user sees, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use maple_pipe::data::image::decode;
use maple_pipe::data::resize::{Side, resize};
use maple_pipe::data::{Manifest, Split, archive, few_shot};
use maple_pipe::diagnostic::Diagnostic;
use maple_pipe::digest::Digest;
use maple_pipe::document::read_table;
use maple_pipe::graph::Graph;
use maple_pipe::method::Prompt;
use maple_pipe::pipeline::Pipeline;
use maple_pipe::store::{Listing, Record, RunRecord, StatCache, Store};
use maple_pipe::tokenizer::{Tokenizer, VOCABULARY};
use maple_pipe::weights::{Checkpoint, Shapes, to_safetensors};
use tempfile::TempDir;

/// A target's name and its function.
pub type Body = (&'static str, fn(&[u8]));

/// All of them.
pub const BODIES: [Body; 12] = [
    ("archive", archive),
    ("checkpoint", checkpoint),
    ("image", image),
    ("manifest", manifest),
    ("pickle", pickle),
    ("pipeline", pipeline),
    ("prompt", prompt),
    ("record", record),
    ("safetensors", safetensors),
    ("split", split),
    ("stat_cache", stat_cache),
    ("tokenizer", tokenizer),
];

/// The most pixels of an image that is decoded here; more only take more time.
const PIXELS: u64 = 1 << 18;
/// What the tensors of a file may hold beside what the file does.
const TENSORS: usize = 1 << 20;

/// A pipeline in TOML: read, and expanded to its graph. Every mistake is told with its place.
pub fn pipeline(data: &[u8]) {
    let folder = TempDir::new().unwrap();
    let path = written(&folder, "pipeline.toml", data);
    match Pipeline::read(&path, &[]) {
        Ok(pipeline) => match Graph::build(&pipeline, None) {
            Ok(graph) => drop(graph),
            Err(mistakes) => told(&mistakes),
        },
        Err(mistakes) => told(&mistakes),
    }
}

/// The manifest of a data set in TOML. What decides its node's key reads back as the same.
pub fn manifest(data: &[u8]) {
    let folder = TempDir::new().unwrap();
    let path = written(&folder, "manifest.toml", data);
    let read = read_table(&path).and_then(|table| table.read::<Manifest>().map_err(|mistake| vec![mistake]));
    let manifest = match read {
        Ok(manifest) => manifest,
        Err(mistakes) => return told(&mistakes),
    };
    let json = serde_json::to_value(&manifest).unwrap();
    let mut whole = json.clone();
    whole["name"] = manifest.name.clone().into();
    whole["folder"] = manifest.folder.clone().into();
    let again: Manifest = serde_json::from_value(whole).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), json);
    if manifest.check().is_ok() {
        let empty = TempDir::new().unwrap();
        // There are no images, so there is no split.
        assert!(manifest.read(empty.path()).is_err());
        assert!(manifest.within().iter().all(|part| !part.starts_with('/')));
        drop((manifest.addresses(), manifest.lacks(empty.path())));
    }
}

/// A split file. What is read and written again is the same.
pub fn split(data: &[u8]) {
    let folder = TempDir::new().unwrap();
    let Ok(split) = Split::read(&written(&folder, "split.json", data)) else { return };
    let again = folder.path().join("again.json");
    split.write(&again).unwrap();
    assert_eq!(Split::read(&again).unwrap(), split);
    let sample = few_shot(&split, 2.try_into().unwrap(), 1);
    assert!(sample.train.len() <= 2 * split.class_names().len());
}

/// A file of tensors in whatever format.
pub fn checkpoint(data: &[u8]) {
    let folder = TempDir::new().unwrap();
    tensors(&written(&folder, "weights", data));
}

/// The pickle of an archive of PyTorch's, which has two storages beside it.
pub fn pickle(data: &[u8]) {
    let folder = TempDir::new().unwrap();
    tensors(&written(&folder, "weights.pt", &archive_of(data)));
}

/// A safetensors file, whose first bytes say how long its header is.
pub fn safetensors(data: &[u8]) {
    let folder = TempDir::new().unwrap();
    tensors(&written(&folder, "weights.safetensors", data));
    if let (Some(end), Some(_)) = (data.iter().rposition(|byte| *byte == b'}'), data.get(8..)) {
        let length = (end + 1).saturating_sub(8) as u64;
        tensors(&written(&folder, "sealed.safetensors", &[&length.to_le_bytes(), &data[8..]].concat()));
    }
}

/// A trained prompt, or a checkpoint of the published code. One that fits a method becomes a prompt of the same tensors.
pub fn prompt(data: &[u8]) {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in [("prompt", data), ("model.pth.tar-5", &archive_of(data))] {
        let Ok(prompt) = Prompt::read(&written(&folder, name, bytes)) else { continue };
        assert!(prompt.told().starts_with("learner"));
        for (_, method) in prompt.shipped() {
            let Ok(bytes) = prompt.import(&method, &[]) else { continue };
            let again = Prompt::read(&written(&folder, "again.safetensors", &bytes)).unwrap();
            assert_eq!(again.tensors(), prompt.tensors());
            assert_eq!(again.description().unwrap().method, method);
        }
    }
}

/// An image file. Its pixels are those of the PNG file that they are written to.
pub fn image(data: &[u8]) {
    if pixels(data) > PIXELS {
        return;
    }
    let Ok(image) = decode(data, Path::new("image")) else { return };
    assert!(image.width() > 0 && image.height() > 0);
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
    assert_eq!(decode(&bytes, Path::new("again.png")).unwrap(), image);
    let (width, height) = image.dimensions();
    assert_eq!(resize(&image, &Side::whole(width), &Side::whole(height)).dimensions(), (width, height));
}

/// An archive of a data set. Nothing is written outside the folder, no link leads out of it, and of one that is refused
/// nothing stays.
pub fn archive(data: &[u8]) {
    for data in [data.to_vec(), sealed_tar(data)] {
        let above = TempDir::new().unwrap();
        let path = written(&above, "archive", &data);
        let folder = above.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let parts = BTreeMap::from([("a".to_owned(), "a".to_owned())]);
        let unpacked = archive::unpack(&path, None, &parts, &folder);
        assert_eq!(names(above.path()), BTreeSet::from(["archive".to_owned(), "folder".to_owned()]));
        let expected = if unpacked.is_ok() { BTreeSet::from(["a".to_owned()]) } else { BTreeSet::new() };
        assert_eq!(names(&folder), expected);
        let inside = folder.canonicalize().unwrap();
        for entry in walkdir::WalkDir::new(&folder) {
            let entry = entry.unwrap();
            if entry.path_is_symlink() {
                assert!(entry.path().canonicalize().unwrap().starts_with(&inside), "{}", entry.path().display());
            }
        }
    }
}

/// What the store keeps: records, run records, listings of folders, keys. What is read and written again is the same.
pub fn record(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(Record::parse(&text, &Digest::of(data)).is_none());
    if let Ok(mut record) = serde_json::from_str::<Record>(&text) {
        record.key = record.recipe.digest();
        let text = record.text();
        assert_eq!(Record::parse(&text, &record.key).unwrap().text(), text);
        // No byte of it may differ.
        assert!(Record::parse(&text.replacen("node", "mode", 1), &record.key).is_none());
    }
    let root = TempDir::new().unwrap();
    for folder in ["runs", "state"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    if let Ok(listing) = Listing::read(&written(&root, "listing", data)) {
        let again = Listing::read(&written(&root, "again", listing.text().as_bytes())).unwrap();
        assert_eq!(again.digest(), listing.digest());
    }
    written(&root, "state/p.json", data);
    let store = Store::open(root.path()).unwrap();
    drop(store.last_keys("p"));
    let id = serde_json::from_str::<RunRecord>(text.lines().next().unwrap_or_default()).map(|run| run.id);
    // Any other name would be another file.
    let id = id.ok().filter(|id| !id.is_empty() && id.len() < 100 && !id.contains(['/', '\0']));
    written(&root, &format!("runs/{}.jsonl", id.as_deref().unwrap_or("run")), data);
    for run in store.runs().unwrap() {
        assert_eq!(store.find_run("last").unwrap().id, run.id);
        if id.is_some() {
            drop(store.run_nodes(&run));
        }
    }
}

/// The stat cache, with right checksums and without: whatever stands in it, a digest is that of the file's content.
pub fn stat_cache(data: &[u8]) {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("data");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("file");
    fs::write(&file, "content").unwrap();
    let place = |place: serde_json::Value| Digest::of(place.to_string().as_bytes()).to_string();
    let within = vec![String::new()];
    let names = [place("Files".into()), place(serde_json::json!({ "Folder": [&folder, &within] }))];
    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
    let seal = |text: &str| Digest::of(text.as_bytes());
    let sealed = format!("{} {head}\n{}\n{body}", seal(head), seal(body));
    fs::create_dir_all(root.path().join("store/inputs")).unwrap();
    let store = Store::open(&root.path().join("store")).unwrap();
    for content in [data, sealed.as_bytes()] {
        for name in &names {
            fs::write(store.stat_cache().join(name), content).unwrap();
        }
        let cache = StatCache::open(store.stat_cache());
        assert_eq!(cache.file(&file).unwrap(), Digest::of(b"content"));
        let listing = cache.listing(&folder, &within).unwrap();
        assert_eq!(listing.digest(), Listing::of_folder(&folder).unwrap().digest());
        let remembers = StatCache::open(store.stat_cache());
        assert_eq!(remembers.folder(&folder, &within).unwrap(), listing.digest());
        store.keep_digests(&cache).unwrap();
        let cache = StatCache::open(store.stat_cache());
        assert_eq!(cache.file(&file).unwrap(), Digest::of(b"content"));
        assert_eq!(cache.listing(&folder, &within).unwrap().digest(), listing.digest());
    }
}

/// Text as CLIP's tokens: letters and digits come back.
pub fn tokenizer(data: &[u8]) {
    thread_local! {
        static TOKENIZER: Tokenizer = Tokenizer::new();
    }
    TOKENIZER.with(|tokenizer| {
        let text = String::from_utf8_lossy(data);
        let tokens = tokenizer.encode(&text);
        assert!(tokens.iter().all(|token| (0..VOCABULARY).contains(token) && tokenizer.word(*token).is_some()));
        if let Ok(whole) = tokenizer.tokenize(&text, 77, "the text") {
            assert!(whole.len() <= 77);
            assert_eq!(whole[1..whole.len() - 1], tokens);
        }
        let plain: String =
            text.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { ' ' }).collect();
        let words: Vec<String> =
            tokenizer.encode(&plain).iter().map(|token| tokenizer.word(*token).unwrap().replace("</w>", "")).collect();
        assert_eq!(words.concat(), plain.replace(' ', "").to_lowercase());
    });
}

/// Reads a file of tensors in every way.
fn tensors(path: &Path) {
    let sizes = Shapes::read_clip(path).map(|shapes| shapes.architecture());
    let Ok(checkpoint) = Checkpoint::read(path) else { return };
    let held: usize = checkpoint.tensors().values().map(|array| array.bytes.len()).sum();
    let most = 4 * fs::metadata(path).unwrap().len() as usize + TENSORS;
    assert!(held <= most, "{held} bytes of tensors, at most {most}");
    assert!(Checkpoint::read_some(path, &|_| false).unwrap().tensors().is_empty());
    // What lies under OpenAI's names says the same of the model with its values as without.
    if let Ok(clip) = Checkpoint::read_clip(path) {
        let same = sizes.is_ok_and(|sizes| sizes.ok() == clip.shapes().architecture().ok());
        assert!(same, "the sizes depend on the values");
    }
    if let Ok(bytes) = to_safetensors(checkpoint.tensors(), checkpoint.note()) {
        let again = path.with_file_name("again");
        fs::write(&again, bytes).unwrap();
        assert_eq!(Checkpoint::read(&again).unwrap().tensors(), checkpoint.tensors());
    }
}

/// An archive as PyTorch writes it, with this pickle.
fn archive_of(pickle: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let numbers: Vec<u8> = (0..=255).collect();
    for (name, content) in [("data.pkl", pickle), ("data/0", &numbers), ("data/1", &numbers[..16])] {
        archive.start_file(format!("archive/{name}"), stored).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A tar file of which every header has its right checksum; unpacked first, if it is compressed.
fn sealed_tar(data: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    match data {
        [0x1f, 0x8b, ..] => drop(flate2::bufread::GzDecoder::new(data).take(1 << 20).read_to_end(&mut tar)),
        _ => tar.extend(data),
    }
    let mut place = 0;
    while let Some(header) = tar.get_mut(place..place + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = String::from_utf8_lossy(&header[124..135]).into_owned();
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        place += 512 + size.div_ceil(512) * 512;
    }
    tar
}

/// How many pixels an image says it has.
fn pixels(data: &[u8]) -> u64 {
    if let [b'G', b'I', b'F', _, _, _, width0, width1, height0, height1, ..] = *data {
        return u64::from(u16::from_le_bytes([width0, width1])) * u64::from(u16::from_le_bytes([height0, height1]));
    }
    let reader = image::ImageReader::new(Cursor::new(data)).with_guessed_format().unwrap();
    reader.into_dimensions().map_or(0, |(width, height)| u64::from(width) * u64::from(height))
}

/// Every mistake says something.
fn told(mistakes: &[Diagnostic]) {
    assert!(!mistakes.is_empty());
    for mistake in mistakes {
        assert!(!mistake.message.is_empty() && !mistake.to_string().is_empty());
    }
}

fn written(folder: &TempDir, name: &str, data: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, data).unwrap();
    path
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
