//! What the store keeps for a key.
//!
//! A record is a line of JSON whose last value is the checksum of all before it, so that any damage shows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Listing;
use crate::boot::Boot;
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::made_by::MadeBy;

/// How a key's outputs were made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// blake3 of the recipe's canonical JSON.
    pub key: Digest,
    /// Everything that decides the result; kept so that `explain` can compare it.
    #[serde(rename = "manifest")]
    pub recipe: CanonicalJson,
    /// The artifacts by output name.
    pub outputs: BTreeMap<String, Artifact>,
    /// The node that ran.
    pub node: String,
    /// One line about the result, as the status line shows it.
    pub note: String,
    /// When it started, UTC.
    pub started: jiff::Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Where it computed, if it needed libtorch.
    pub device: Option<Device>,
    /// The most memory it used there, in bytes, where that is known.
    pub memory: Option<u64>,
    /// What computed it; absent in records of versions that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
    /// The boot of the machine, where the outputs may not have reached the disk before the boot ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsynced: Option<Boot>,
}

/// What stands between the values and the checksum, and what stands at the end.
const CHECKSUM: [&str; 2] = [",\"checksum\":\"", "\"}\n"];

impl Record {
    /// The text that is kept.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("a record is plain data");
        text.pop();
        let checksum = Digest::of(text.as_bytes());
        text + CHECKSUM[0] + &checksum.to_string() + CHECKSUM[1]
    }

    /// Reads a text that [`Record::text`] made; none if it is damaged or of another key.
    pub fn parse(text: &str, key: &Digest) -> Option<Record> {
        Record::parse_copy(text, key).filter(|record| record.recipe.digest() == *key)
    }

    /// The same for the text of a record that was read before, when its key was compared with its recipe.
    pub fn parse_copy(text: &str, key: &Digest) -> Option<Record> {
        let (values, checksum) = text.strip_suffix(CHECKSUM[1])?.rsplit_once(CHECKSUM[0])?;
        if Digest::parse(checksum)? != Digest::of(values.as_bytes()) {
            return None;
        }
        let record: Record = serde_json::from_str(text).ok()?;
        (record.key == *key).then_some(record)
    }
}

impl Record {
    /// The digests of what it was made from.
    pub fn inputs(&self) -> Vec<Digest> {
        let recipe = self.recipe.value();
        let inputs = recipe["inputs"].as_object().into_iter().flat_map(serde_json::Map::values);
        let digests = inputs.flat_map(|input| match input {
            Value::Array(many) => many.iter().map(|one| &one["digest"]).collect(),
            one => vec![one],
        });
        digests.filter_map(|digest| Digest::parse(digest.as_str()?)).collect()
    }
}

/// JSON with sorted keys and shortest numbers, so that equal meaning is equal text. Kept as text: most records are only
/// looked at for their outputs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct CanonicalJson(Box<RawValue>);

impl From<&Value> for CanonicalJson {
    fn from(value: &Value) -> CanonicalJson {
        // `serde_json` sorts the keys of its maps and writes numbers shortest.
        CanonicalJson(serde_json::value::to_raw_value(value).expect("a value is plain data"))
    }
}

impl fmt::Display for CanonicalJson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.get())
    }
}

impl CanonicalJson {
    /// Of data that is serialised with its keys in order.
    pub fn of_sorted(data: &impl Serialize) -> CanonicalJson {
        CanonicalJson(serde_json::value::to_raw_value(data).expect("it is plain data"))
    }

    /// blake3 of the text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.get().as_bytes())
    }

    /// What the text says.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.0.get()).expect("it was written by `serde_json`")
    }
}

/// One output.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Artifact {
    /// A file or a folder.
    pub kind: ArtifactKind,
    /// blake3 of a file's content, or of a folder's listing.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl Artifact {
    /// The artifact that a file or folder would be, and a folder's listing.
    pub fn of(path: &Path) -> Result<(Artifact, Option<Listing>)> {
        let metadata = std::fs::metadata(path).map_err(Error::io("find the output", path))?;
        if metadata.is_dir() {
            let listing = Listing::of_folder(path)?;
            let artifact = Artifact { kind: ArtifactKind::Folder, digest: listing.digest(), size: listing.size() };
            Ok((artifact, Some(listing)))
        } else {
            let artifact = Artifact { kind: ArtifactKind::File, digest: Digest::of_file(path)?, size: metadata.len() };
            Ok((artifact, None))
        }
    }

    /// The same content, whatever size is said of it.
    pub(super) fn is_same(&self, other: &Artifact) -> bool {
        self.kind == other.kind && self.digest == other.digest
    }
}

#[cfg(test)]
impl Record {
    /// A record of a recipe, of which nothing else is known.
    pub(crate) fn example(recipe: &Value) -> Record {
        let recipe = CanonicalJson::from(recipe);
        Record {
            key: recipe.digest(),
            recipe,
            outputs: BTreeMap::new(),
            node: "node".to_owned(),
            note: String::new(),
            started: jiff::Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            device: None,
            memory: None,
            made_by: None,
            unsynced: None,
        }
    }
}

/// A file or folder that a node is to leave.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Output {
    /// What other stages and records call it.
    pub name: Cow<'static, str>,
    /// Its path in the scratch folder.
    pub path: Cow<'static, str>,
    /// A file or a folder.
    pub kind: ArtifactKind,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// One file.
    File,
    /// A folder of files.
    Folder,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key is a hash of this text. A dependency that switches on `serde_json`'s feature `preserve_order`, which keeps
    /// keys as they were written, would change them all.
    #[test]
    fn serde_json_is_built_without_preserve_order() {
        let value: Value = serde_json::from_str(r#"{ "b": { "d": 1.50, "c": 2 }, "a": [] }"#).unwrap();
        let text = CanonicalJson::from(&value).to_string();
        assert_eq!(text, r#"{"a":[],"b":{"c":2,"d":1.5}}"#, "see `cargo tree --edges features --invert serde_json`");
    }

    #[test]
    fn any_damage_makes_a_record_count_as_absent() {
        let recipe = CanonicalJson::from(&serde_json::json!({"kind": "fewshot", "rate": 0.0035, "name": "ä\"b"}));
        let record = Record {
            key: recipe.digest(),
            recipe,
            outputs: BTreeMap::from([(
                "train".to_owned(),
                Artifact { kind: ArtifactKind::File, digest: Digest::of(b"1"), size: 1 },
            )]),
            node: "shots/seed1".to_owned(),
            note: "16 images".to_owned(),
            started: jiff::Timestamp::UNIX_EPOCH,
            seconds: 0.25,
            device: Some(Device::Cpu),
            memory: Some(1 << 20),
            made_by: Some(MadeBy::here()),
            unsynced: None,
        };
        let whole = record.text();
        let read = Record::parse(&whole, &record.key).unwrap();
        assert_eq!(read.text(), whole);
        assert_eq!(read.recipe.value()["rate"], 0.0035);
        assert_eq!(serde_json::from_str::<Value>(&whole).unwrap()["node"], "shots/seed1");
        assert!(Record::parse(&whole, &Digest::of(b"another")).is_none());
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone().into_bytes();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let damaged = String::from_utf8(damaged).unwrap_or_default();
            assert!(Record::parse(&damaged, &record.key).is_none(), "{damaged}");
        }
        for length in 0..whole.len() {
            assert!(Record::parse(whole.get(..length).unwrap_or_default(), &record.key).is_none());
        }
    }
}
