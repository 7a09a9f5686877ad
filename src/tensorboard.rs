//! Event files for TensorBoard, written while a node runs: scalars by step, in TFRecord frames.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};
use jiff::Timestamp;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::terminal;

/// The checksum of TFRecords, CRC-32C.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// How TensorBoard knows event files.
const PREFIX: &str = "events.out.tfevents";
/// The version of the format: restarts are announced.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.START`.
const START: i32 = 1;

/// How the hparams plugin is called, and the tag by which it finds what a run was made with.
const HPARAMS: &str = "hparams";
const SESSION: &str = "_hparams_/session_start_info";

/// Where the event files of a node go: a folder for each of its keys, so that a curve stays when another value makes another.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EventFolder {
    /// The folder; it need not be there.
    pub path: PathBuf,
    /// What the node works on.
    pub key: Digest,
    /// What the curve was made with, by name: numbers, texts and booleans.
    pub hyper_parameters: BTreeMap<String, serde_json::Value>,
}

/// What the hparams plugin can show of some values: lists as text, tables by `table.name`.
pub fn hyper_parameters(values: &serde_json::Value) -> BTreeMap<String, serde_json::Value> {
    fn add(path: &str, value: &serde_json::Value, all: &mut BTreeMap<String, serde_json::Value>) {
        match value {
            serde_json::Value::Object(table) => {
                let dot = if path.is_empty() { "" } else { "." };
                table.iter().for_each(|(name, value)| add(&format!("{path}{dot}{name}"), value, all));
            }
            serde_json::Value::Array(_) => drop(all.insert(path.to_owned(), value.to_string().into())),
            serde_json::Value::Null => {}
            single => drop(all.insert(path.to_owned(), single.clone())),
        }
    }
    let mut all = BTreeMap::new();
    add("", values, &mut all);
    all
}

/// An event file that is being written. It is no result: when it cannot be written, the node goes on without it.
#[derive(Debug, Default)]
pub struct EventFile(Option<File>);

impl EventFolder {
    /// Begins an event file for the steps from `first` on. Earlier files stay if `first` is not the first step of all:
    /// TensorBoard then shows their steps before `first`, and these from there.
    pub fn begin(&self, first: usize) -> EventFile {
        EventFile(self.create(first).inspect_err(warn).ok())
    }

    fn create(&self, first: usize) -> Result<File> {
        fs::create_dir_all(&self.path).map_err(Error::io("create", &self.path))?;
        // TensorBoard reads the files of a folder by name, so that the latest comes last.
        let own = format!("{PREFIX}.{}", &self.key.to_string()[..16]);
        for file in fs::read_dir(&self.path).map_err(Error::io("read", &self.path))?.flatten() {
            let name = file.file_name();
            if name.to_string_lossy().starts_with(PREFIX) && first <= 1 {
                remove(&file.path())?;
            }
        }
        let path = self.path.join(format!("{own}.{}", Timestamp::now().as_microsecond()));
        let mut file =
            OpenOptions::new().create_new(true).append(true).open(&path).map_err(Error::io("create", &path))?;
        let start = SessionLog { status: Some(START) };
        for event in [
            Event { file_version: Some(VERSION.to_owned()), ..Event::now(0) },
            Event { session_log: Some(start), ..Event::now(first) },
            Event { summary: Some(self.session()), ..Event::now(0) },
        ] {
            file.write_all(&record(&event.encode_to_vec())).map_err(Error::io("write", &path))?;
        }
        Ok(file)
    }
}

impl EventFolder {
    /// What the hparams plugin reads: the values that this curve was made with.
    fn session(&self) -> Summary {
        let value = |value: &serde_json::Value| Setting {
            number: value.as_f64(),
            text: value.as_str().map(str::to_owned),
            boolean: value.as_bool(),
        };
        let settings = self.hyper_parameters.iter().map(|(name, one)| (name.clone(), value(one)));
        let started = Timestamp::now().as_microsecond() as f64 / 1e6;
        let session = SessionStart { hparams: settings.collect(), start_time_secs: started };
        let content = HparamsData { version: 0, session_start_info: Some(session) }.encode_to_vec();
        let plugin_data = Some(PluginData { plugin_name: HPARAMS.to_owned(), content });
        let metadata = Some(SummaryMetadata { plugin_data });
        Summary { value: vec![Value { tag: SESSION.to_owned(), simple_value: None, metadata }] }
    }
}

impl EventFile {
    /// Writes scalars of one step.
    pub fn scalars(&mut self, step: usize, scalars: &[(&str, f64)]) {
        let value = |&(tag, value): &(&str, f64)| Value {
            tag: tag.to_owned(),
            simple_value: Some(value as f32),
            metadata: None,
        };
        let summary = Summary { value: scalars.iter().map(value).collect() };
        let event = Event { summary: Some(summary), ..Event::now(step) };
        if let Some(file) = &mut self.0
            && let Err(error) = file.write_all(&record(&event.encode_to_vec()))
        {
            warn(&Error::io("write", "an event file")(error));
            self.0 = None;
        }
    }
}

fn warn(error: &Error) {
    terminal::warn(&format!("TensorBoard will not show this node: {error}"));
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A TFRecord: length, its checksum, data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length, &masked_checksum(&length)[..], data, &masked_checksum(data)].concat()
}

/// TFRecords mask their checksums, so that data which hold checksums are no special case.
fn masked_checksum(data: &[u8]) -> [u8; 4] {
    CHECKSUM.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

// The fields that are written of TensorFlow's `event.proto` and `summary.proto`.

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, optional, tag = "1")]
    status: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<SummaryMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

// Those of `plugin_data.proto` of TensorBoard's hparams plugin, and of protobuf's `struct.proto`.

#[derive(Clone, PartialEq, Message)]
struct HparamsData {
    #[prost(int32, tag = "1")]
    version: i32,
    #[prost(message, optional, tag = "3")]
    session_start_info: Option<SessionStart>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionStart {
    #[prost(btree_map = "string, message", tag = "1")]
    hparams: BTreeMap<String, Setting>,
    #[prost(double, tag = "5")]
    start_time_secs: f64,
}

/// `google.protobuf.Value`, of which one field is given.
#[derive(Clone, PartialEq, Message)]
struct Setting {
    #[prost(double, optional, tag = "2")]
    number: Option<f64>,
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
    #[prost(bool, optional, tag = "4")]
    boolean: Option<bool>,
}

impl Event {
    fn now(step: usize) -> Event {
        let wall_time = Timestamp::now().as_microsecond() as f64 / 1e6;
        Event { wall_time, step: step as i64, ..Event::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_as_tensorflow_writes_it() {
        // `tensorboard.summary.writer.record_writer.RecordWriter` wrote this for b"maple".
        let expected = [5, 0, 0, 0, 0, 0, 0, 0, 234, 178, 4, 62, 109, 97, 112, 108, 101, 105, 244, 31, 204];
        assert_eq!(record(b"maple"), expected);
    }

    #[test]
    fn files_of_an_attempt_that_starts_over_go() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<PathBuf> =
                fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
            names.sort();
            names
        };
        fs::write(folder.path().join("notes.txt"), "kept").unwrap();
        let at = |path: PathBuf| EventFolder { path, key: Digest::of(b"a"), hyper_parameters: BTreeMap::new() };
        let here = || at(folder.path().to_owned());
        let mut first = here().begin(1);
        first.scalars(1, &[("loss", 0.0)]);
        let before = names();
        here().begin(5);
        let resumed = names();
        assert_eq!((before.len(), resumed.len()), (2, 3));
        assert_eq!((&resumed[0], &resumed[2]), (&before[0], &before[1]));
        here().begin(1);
        assert_eq!(names().len(), 2);
        assert!(!resumed[..2].contains(&names()[0]));
        // It is no folder: the node goes on.
        let file = folder.path().join("notes.txt");
        at(file).begin(1).scalars(1, &[("loss", 0.0)]);
    }

    #[test]
    fn parameters_are_flat() {
        let values = serde_json::json!({
            "method": { "learner": "maple", "training": { "learning_rate": 0.002, "crop": [0.08, 1.0] }, "note": null },
            "seed": 1,
        });
        let expected = serde_json::json!({
            "method.learner": "maple", "method.training.crop": "[0.08,1.0]", "method.training.learning_rate": 0.002,
            "seed": 1,
        });
        assert_eq!(serde_json::json!(hyper_parameters(&values)), expected);
    }
}
