//! What a pipeline's runs last used, in one object: the records of its nodes and their small artifacts. It answers for many
//! keys at once. It is a short cut and proves nothing: each record and each artifact in it has its own checksum.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::digest::Digest;
use crate::store::{Artifact, ArtifactKind, Record};

/// Bytes of the largest artifact that is in a bundle.
pub(super) const SMALL: u64 = 32 << 10;
/// Bytes of all artifacts in a bundle, beyond which the others are objects alone.
const MOST_OF_ARTIFACTS: usize = 64 << 20;
/// Bytes that a bundle may be unpacked to.
const MOST: u64 = 512 << 20;
/// The names of what is in it, as in a store.
const NODES: &str = "nodes.json";
const PIXELS: &str = "pixels.json";
const RECORDS: &str = "records/";
const ARTIFACTS: &str = "artifacts/";
const JSON: &str = ".json";

/// The records of a pipeline's nodes with their small artifacts.
#[derive(Clone, Debug, Default)]
pub(super) struct Bundle {
    /// The key of each node.
    pub nodes: BTreeMap<String, Digest>,
    /// By key.
    pub records: HashMap<Digest, Record>,
    /// Files and the listings of folders, by digest.
    pub artifacts: HashMap<Digest, Vec<u8>>,
    /// The names of files of prepared pixels that runs used.
    pub pixels: BTreeSet<String>,
}

impl Bundle {
    /// The records of these nodes; `read` gets the bytes of a small artifact, where it can.
    pub fn new(nodes: &BTreeMap<String, Record>, read: impl Fn(&Digest) -> Option<Vec<u8>>) -> Bundle {
        let mut bundle = Bundle::default();
        let mut room = MOST_OF_ARTIFACTS;
        for (node, record) in nodes {
            bundle.nodes.insert(node.clone(), record.key);
            for artifact in record.outputs.values().filter(|artifact| may_be_small(artifact)) {
                if bundle.artifacts.contains_key(&artifact.digest) {
                    continue;
                }
                if let Some(content) =
                    read(&artifact.digest).filter(|content| content.len() <= room.min(SMALL as usize))
                {
                    room -= content.len();
                    bundle.artifacts.insert(artifact.digest, content);
                }
            }
            bundle.records.insert(record.key, record.clone());
        }
        bundle
    }

    /// The bytes of the object.
    ///
    /// # Errors
    /// Never: it is written to memory.
    pub fn write(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut add = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content)
        };
        add(NODES, serde_json::to_string(&self.nodes)?.as_bytes())?;
        add(PIXELS, serde_json::to_string(&self.pixels)?.as_bytes())?;
        let records: BTreeMap<&Digest, &Record> = self.records.iter().collect();
        for (key, record) in records {
            add(&format!("{RECORDS}{key}{JSON}"), record.text().as_bytes())?;
        }
        let artifacts: BTreeMap<&Digest, &Vec<u8>> = self.artifacts.iter().collect();
        for (digest, content) in artifacts {
            add(&format!("{ARTIFACTS}{digest}"), content)?;
        }
        archive.into_inner()?.finish()
    }

    /// Reads what [`Bundle::write`] wrote, and says whether all of it was whole; what is damaged is left out.
    pub fn read(bytes: &[u8]) -> (Bundle, bool) {
        let mut bundle = Bundle::default();
        let is_whole = bundle.unpack(bytes).unwrap_or(false);
        (bundle, is_whole)
    }

    fn unpack(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(MOST));
        let (mut is_whole, mut has_nodes) = (true, false);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            if name == NODES {
                self.nodes = serde_json::from_slice(&content)?;
                has_nodes = true;
            } else if name == PIXELS {
                self.pixels = serde_json::from_slice(&content)?;
                // They become paths here.
                self.pixels
                    .retain(|name| name.strip_suffix(".pixels").is_some_and(|name| Digest::parse(name).is_some()));
            } else if let Some(digest) = name.strip_prefix(ARTIFACTS).and_then(Digest::parse) {
                is_whole &= Digest::of(&content) == digest;
                if Digest::of(&content) == digest {
                    self.artifacts.insert(digest, content);
                }
            } else if let Some(key) =
                name.strip_prefix(RECORDS).and_then(|name| Digest::parse(name.strip_suffix(JSON)?))
            {
                let record = String::from_utf8(content).ok().and_then(|text| Record::parse(&text, &key));
                is_whole &= record.is_some();
                self.records.extend(record.map(|record| (key, record)));
            }
        }
        Ok(is_whole && has_nodes)
    }
}

/// Whether an artifact, or the listing of a folder, may be small enough for a bundle.
fn may_be_small(artifact: &Artifact) -> bool {
    artifact.kind == ArtifactKind::Folder || artifact.size <= SMALL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        let content = |text: &str| (Digest::of(text.as_bytes()), text.as_bytes().to_vec());
        let contents: HashMap<Digest, Vec<u8>> = [content("one"), content("two"), content("")].into();
        let record = |node: &str, output: &str| {
            let artifact =
                Artifact { kind: ArtifactKind::File, digest: Digest::of(output.as_bytes()), size: output.len() as u64 };
            let record = Record::example(&serde_json::json!(node));
            (node.to_owned(), Record { outputs: [("out".to_owned(), artifact)].into(), ..record })
        };
        let nodes = [record("a", "one"), record("b", "two"), record("c", ""), record("d", "absent")].into();
        Bundle::new(&nodes, |digest| contents.get(digest).cloned())
    }

    #[test]
    fn what_is_written_is_read() {
        let written = bundle();
        let (read, is_whole) = Bundle::read(&written.write().unwrap());
        assert!(is_whole);
        assert_eq!((&read.nodes, &read.artifacts), (&written.nodes, &written.artifacts));
        assert_eq!((read.records.len(), read.artifacts.len()), (4, 3));
        for (key, record) in &read.records {
            assert_eq!(record.text(), written.records[key].text());
        }
    }

    /// Whatever bytes a remote sends: nothing that is read is other than what was written.
    #[test]
    fn any_damage_leaves_out_what_it_hits() {
        let written = bundle();
        let bytes = written.write().unwrap();
        let check = |damaged: &[u8]| {
            let (read, _) = Bundle::read(damaged);
            for (digest, content) in &read.artifacts {
                assert_eq!(Digest::of(content), *digest);
            }
            for (key, record) in &read.records {
                assert_eq!(record.text(), written.records[key].text());
            }
        };
        for place in 0..bytes.len() {
            check(&bytes[..place]);
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x41;
            check(&damaged);
        }
        assert!(!Bundle::read(b"<html>not found</html>").1);
        assert!(!Bundle::read(&bytes[..bytes.len() / 2]).1);
    }
}
