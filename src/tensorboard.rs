//! Event files for TensorBoard, written while a node runs: scalars by step, in TFRecord frames.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};
use jiff::Timestamp;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};

/// The checksum of TFRecords, CRC-32C.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// How TensorBoard knows event files.
const PREFIX: &str = "events.out.tfevents";
/// The version of the format: restarts are announced.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.START`.
const START: i32 = 1;

/// Where the event files of a node go: a folder that the node has whatever its key, and the key that tells the files of one
/// attempt from those of another.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EventFolder {
    /// The folder; it need not be there.
    pub path: PathBuf,
    /// What the node works on.
    pub key: Digest,
}

/// An event file that is being written. It is no result: when it cannot be written, the node goes on without it.
#[derive(Debug, Default)]
pub struct EventFile(Option<File>);

impl EventFolder {
    /// Begins an event file for the steps from `first` on. Files of other keys are removed, and those of this key stay
    /// if `first` is not the first step of all: TensorBoard then shows their steps before `first`, and these from there.
    pub fn begin(&self, first: usize) -> EventFile {
        EventFile(self.create(first).inspect_err(warn).ok())
    }

    fn create(&self, first: usize) -> Result<File> {
        fs::create_dir_all(&self.path).map_err(Error::io("create", &self.path))?;
        // TensorBoard reads the files of a folder by name, so that the latest comes last.
        let own = format!("{PREFIX}.{}", &self.key.to_string()[..16]);
        for file in fs::read_dir(&self.path).map_err(Error::io("read", &self.path))?.flatten() {
            let name = file.file_name();
            let is = |prefix: &str| name.to_string_lossy().starts_with(prefix);
            if is(PREFIX) && (first <= 1 || !is(&own)) {
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
        ] {
            file.write_all(&record(&event.encode_to_vec())).map_err(Error::io("write", &path))?;
        }
        Ok(file)
    }
}

impl EventFile {
    /// Writes scalars of one step.
    pub fn scalars(&mut self, step: usize, scalars: &[(&str, f64)]) {
        let value = |&(tag, value): &(&str, f64)| Value { tag: tag.to_owned(), simple_value: Some(value as f32) };
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
    eprintln!("warning: TensorBoard will not show this node: {error}");
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
    fn files_of_another_key_and_of_an_attempt_that_starts_over_go() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<PathBuf> =
                fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
            names.sort();
            names
        };
        fs::write(folder.path().join("notes.txt"), "kept").unwrap();
        let of = |key: &[u8]| EventFolder { path: folder.path().to_owned(), key: Digest::of(key) };
        let mut first = of(b"a").begin(1);
        first.scalars(1, &[("loss", 0.0)]);
        let before = names();
        of(b"a").begin(5);
        let resumed = names();
        assert_eq!((before.len(), resumed.len()), (2, 3));
        assert_eq!((&resumed[0], &resumed[2]), (&before[0], &before[1]));
        of(b"a").begin(1);
        assert_eq!(names().len(), 2);
        assert!(!resumed[..2].contains(&names()[0]));
        of(b"b").begin(7);
        assert_eq!(names().len(), 2);
        // It is no folder: the node goes on.
        let file = folder.path().join("notes.txt");
        EventFolder { path: file, key: Digest::of(b"a") }.begin(1).scalars(1, &[("loss", 0.0)]);
    }
}
