use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::store::{Artifact, Listing, Output, Record, Store};

/// Objects in memory, with what is wrong with them.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    objects: BTreeMap<String, (Vec<u8>, SystemTime)>,
    /// What is answered in place of anything.
    fault: Option<Fault>,
    /// The same to what is sent.
    fault_of_writing: Option<Fault>,
    requests: usize,
}

impl Memory {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    fn ask(&self) -> Result<MutexGuard<'_, Inside>, Fault> {
        let mut inside = self.inside();
        inside.requests += 1;
        inside.fault.clone().map_or(Ok(inside), Err)
    }

    fn paths(&self, folder: &str) -> Vec<String> {
        self.inside().objects.keys().filter(|path| path.starts_with(folder)).cloned().collect()
    }

    fn age(&self, days: u64) {
        let time = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
        self.inside().objects.values_mut().for_each(|(_, modified)| *modified = time);
    }
}

fn object(path: &str, (content, modified): &(Vec<u8>, SystemTime)) -> Object {
    Object { path: path.to_owned(), size: content.len() as u64, modified: *modified }
}

impl Objects for Memory {
    fn read(
        &self,
        path: &str,
        most: u64,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Option<Object>, Fault> {
        let Some(found) = self.ask()?.objects.get(path).cloned() else { return Ok(None) };
        if found.0.len() as u64 > most {
            return Err(Fault::Object("it is too long".to_owned()));
        }
        // In pieces, as they come from afar.
        found.0.chunks(7).try_for_each(take).map_err(|error| Fault::Here(error.to_string()))?;
        Ok(Some(object(path, &found)))
    }

    fn write(&self, path: &str, content: Bytes) -> Result<(), Fault> {
        let mut inside = self.ask()?;
        if let Some(fault) = &inside.fault_of_writing {
            return Err(fault.clone());
        }
        inside.objects.insert(path.to_owned(), (content.to_vec(), SystemTime::now()));
        Ok(())
    }

    fn look(&self, path: &str) -> Result<Option<Object>, Fault> {
        Ok(self.ask()?.objects.get(path).map(|found| object(path, found)))
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>, Fault> {
        let inside = self.ask()?;
        let below = inside.objects.iter().filter(|(path, _)| path.starts_with(&format!("{folder}/")));
        Ok(below.map(|(path, found)| object(path, found)).collect())
    }

    fn remove(&self, path: &str) -> Result<(), Fault> {
        self.ask()?.objects.remove(path);
        Ok(())
    }
}

/// A remote of these objects, as one run sees it.
fn remote(objects: &Memory) -> Remote {
    let usage =
        Usage { readonly: false, pixels: true, required: Required::default(), patience: Duration::from_secs(1) };
    Remote::of("memory".to_owned(), Box::new(objects.clone()), usage)
}

fn store(folder: &Path) -> Store {
    Store::open(&folder.join("store")).unwrap()
}

/// The pipeline of these tests.
fn pipeline() -> Digest {
    Digest::of(b"a pipeline")
}

/// Commits two nodes: one with a file that is not small and one with a folder of several kinds of files.
fn commit(folder: &Path, store: &Store) -> BTreeMap<String, Record> {
    let (file, files) = (folder.join("file"), folder.join("files"));
    fs::write(&file, "long ".repeat(10_000)).unwrap();
    fs::create_dir_all(files.join("deep/empty")).unwrap();
    fs::write(files.join("a"), "").unwrap();
    fs::write(files.join("deep/b"), "some text").unwrap();
    fs::write(files.join("deep/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(files.join("deep/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(files.join("z"), "").unwrap();
    let nodes = [("long", "file", file), ("folder", "files", files)];
    let commit = |(node, output, path): (&str, &str, _)| {
        let record = Record { node: node.to_owned(), ..Record::example(&serde_json::json!(node)) };
        (node.to_owned(), store.commit(record, &[(output.to_owned(), path)].into()).unwrap())
    };
    nodes.into_iter().map(commit).collect()
}

/// The records of nodes that come into an empty store, in the order of the nodes.
fn pulled(remote: &Remote, store: &Store, nodes: &BTreeMap<String, Record>) -> Vec<Option<Record>> {
    remote.prepare(&pipeline());
    let wanted: Vec<(Digest, &[Output])> = nodes.values().map(|record| (record.key, &[][..])).collect();
    remote.pull(store, &wanted)
}

/// A store with two results that were sent.
fn sent() -> (tempfile::TempDir, Memory, BTreeMap<String, Record>) {
    let folder = tempfile::tempdir().unwrap();
    let (store, objects) = (store(folder.path()), Memory::default());
    let nodes = commit(folder.path(), &store);
    let remote = remote(&objects);
    remote.prepare(&pipeline());
    remote.send_all(&store, &pipeline(), &nodes, SystemTime::now());
    assert_eq!((remote.trouble(), remote.traffic().sent), (None, 2));
    (folder, objects, nodes)
}

#[test]
fn what_is_sent_comes_into_an_empty_store() {
    let (folder, objects, nodes) = sent();
    for is_bundled in [true, false] {
        let empty = tempfile::tempdir().unwrap();
        let store = store(empty.path());
        if !is_bundled {
            objects.inside().objects.retain(|path, _| !path.starts_with("bundles/"));
        }
        let remote = remote(&objects);
        let came = pulled(&remote, &store, &nodes);
        assert_eq!(remote.trouble(), None);
        for (record, came) in nodes.values().zip(came) {
            assert_eq!(came.unwrap().outputs, record.outputs);
            assert_eq!(store.valid_record(&record.key, &[]).unwrap().outputs, record.outputs);
        }
        assert!(store.verify_all().unwrap().faults.is_empty());
        let script = store.artifact_path(&nodes["folder"].outputs["files"]).join("deep/run");
        assert_eq!(fs::metadata(script).unwrap().permissions().mode() & 0o777, 0o555);
        // What is here is not asked for again, nor is what the remote has sent to it again.
        let before = objects.inside().requests;
        remote.send_all(&store, &pipeline(), &nodes, SystemTime::now());
        assert_eq!(
            objects.inside().requests - before,
            usize::from(!is_bundled),
            "it writes the bundle, if there is none"
        );
    }
    drop(folder);
}

/// Each object in turn is cut, empty, absent, or holds other bytes.
#[test]
fn no_damage_of_an_object_comes_into_a_store() {
    let (_folder, objects, nodes) = sent();
    let whole = objects.inside().objects.clone();
    type Damage = fn(&[u8]) -> Option<Vec<u8>>;
    let damages: [(&str, Damage); 4] = [
        ("cut", |content| Some(content[..content.len() / 2].to_vec())),
        ("empty", |_| Some(Vec::new())),
        ("absent", |_| None),
        ("other bytes", |content| Some(content.iter().map(|byte| byte ^ 1).collect())),
    ];
    for path in whole.keys() {
        for (what, damage) in damages {
            for is_bundled in [true, false] {
                let mut damaged = whole.clone();
                match damage(&whole[path].0) {
                    Some(content) => damaged.get_mut(path).unwrap().0 = content,
                    None => drop(damaged.remove(path)),
                }
                if !is_bundled {
                    damaged.retain(|path, _| !path.starts_with("bundles/"));
                }
                objects.inside().objects = damaged;
                let empty = tempfile::tempdir().unwrap();
                let store = store(empty.path());
                let remote = remote(&objects);
                let came = pulled(&remote, &store, &nodes);
                let whole_store = store.verify_all().unwrap();
                assert!(whole_store.faults.is_empty(), "{path} {what}: {whole_store:?}");
                for (record, came) in nodes.values().zip(&came) {
                    assert!(came.as_ref().is_none_or(|came| came.outputs == record.outputs), "{path} {what}");
                    assert_eq!(store.valid_record(&record.key, &[]).is_some(), came.is_some(), "{path} {what}");
                }
                // Whoever has it mends it.
                let first = self::store(_folder.path());
                remote.send_all(&first, &pipeline(), &nodes, SystemTime::now());
                let again = self::remote(&objects);
                let other = tempfile::tempdir().unwrap();
                let came = pulled(&again, &self::store(other.path()), &nodes);
                if path != FORMAT_PATH {
                    assert!(came.iter().all(Option::is_some), "{path} {what} {is_bundled}");
                }
            }
        }
    }
}

/// A remote may be anybody's: right digests are no reason to write where a path leads.
#[test]
fn a_listing_that_leads_elsewhere_is_refused() {
    let (_folder, objects, nodes) = sent();
    let folder = nodes["folder"].outputs["files"].clone();
    let path = |artifact: &Artifact, kind| place(kind, &artifact.digest, "");
    let content = objects.inside().objects[&path(&folder, "folders")].clone();
    let listing = objects.inside().objects[&path(&folder, "artifacts")].clone();
    let text = String::from_utf8(listing.0).unwrap().replace(" a\n", " ../../../outside\n");
    let listing = Listing::parse(&text).unwrap();
    let forged = Artifact { digest: listing.digest(), ..folder };
    let record = Record { outputs: [("files".to_owned(), forged.clone())].into(), ..nodes["folder"].clone() };
    let mut inside = objects.inside();
    inside.objects.retain(|path, _| !path.starts_with("bundles/"));
    inside.objects.insert(path(&forged, "folders"), content);
    inside.objects.insert(path(&forged, "artifacts"), (listing.text().into_bytes(), SystemTime::now()));
    inside.objects.insert(record_path(&record.key), (record.text().into_bytes(), SystemTime::now()));
    drop(inside);
    let empty = tempfile::tempdir().unwrap();
    let remote = remote(&objects);
    let came = pulled(&remote, &store(empty.path()), &[("folder".to_owned(), record)].into());
    assert!(came[0].is_none() && remote.trouble().unwrap().message.contains("it is no listing of this folder"));
    let outside = |entry: &walkdir::DirEntry| entry.file_name() == "outside";
    assert!(!walkdir::WalkDir::new(empty.path()).into_iter().flatten().any(|entry| outside(&entry)));
}

#[test]
fn a_remote_that_is_down_is_asked_once_and_told_of_once() {
    let (folder, objects, nodes) = sent();
    objects.inside().fault = Some(Fault::Remote("it answers `503`".to_owned()));
    objects.inside().requests = 0;
    let empty = tempfile::tempdir().unwrap();
    let remote = remote(&objects);
    assert!(pulled(&remote, &store(empty.path()), &nodes).iter().all(Option::is_none));
    remote.send_all(&store(folder.path()), &pipeline(), &nodes, SystemTime::now());
    assert_eq!(objects.inside().requests, 1);
    let trouble = remote.trouble().unwrap();
    assert_eq!(trouble.message, "the remote `memory` cannot be used: it answers `503`");
    assert_eq!(remote.trouble(), None);
}

#[test]
fn a_remote_that_takes_nothing_still_gives() {
    let (folder, objects, nodes) = sent();
    objects.inside().objects.retain(|path, _| !path.contains(&nodes["long"].key.to_string()));
    objects.inside().objects.retain(|path, _| !path.starts_with("bundles/"));
    objects.inside().fault_of_writing = Some(Fault::Remote("it refuses access".to_owned()));
    let empty = tempfile::tempdir().unwrap();
    let remote = remote(&objects);
    let came = pulled(&remote, &store(empty.path()), &nodes);
    assert_eq!(came.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    remote.send_all(&store(folder.path()), &pipeline(), &nodes, SystemTime::now());
    assert!(remote.trouble().unwrap().message.starts_with("nothing more is sent to the remote `memory`"));
    assert!(remote.is_there() && !remote.takes());
}

#[test]
fn a_remote_of_a_later_format_is_left_alone() {
    let (folder, objects, nodes) = sent();
    objects.inside().objects.insert(FORMAT_PATH.to_owned(), (b"2\n".to_vec(), SystemTime::now()));
    let before = objects.inside().objects.clone();
    let empty = tempfile::tempdir().unwrap();
    let remote = remote(&objects);
    assert!(pulled(&remote, &store(empty.path()), &nodes).iter().all(Option::is_none));
    remote.send_all(&store(folder.path()), &pipeline(), &nodes, SystemTime::now());
    assert_eq!(objects.inside().objects, before);
    assert!(remote.trouble().unwrap().message.contains("it has format 2, and this program knows those up to 1"));
}

/// Both have made the same keys, to other bits, and send them at the same time.
#[test]
fn two_writers_leave_results_that_are_whole() {
    let objects = Memory::default();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let made = |folder: &Path, text: &str| {
        let store = store(folder);
        let nodes: BTreeMap<String, Record> = (0..40)
            .map(|number| {
                let file = folder.join("out");
                fs::write(&file, format!("{text} {}", number / 2).repeat(5000)).unwrap();
                let record = Record::example(&serde_json::json!(number));
                (format!("node{number}"), store.commit(record, &[("out".to_owned(), file)].into()).unwrap())
            })
            .collect();
        (store, nodes)
    };
    let writers = [made(folders[0].path(), "one"), made(folders[1].path(), "two")];
    std::thread::scope(|scope| {
        for (store, nodes) in &writers {
            let remote = remote(&objects);
            scope.spawn(move || {
                remote.prepare(&pipeline());
                remote.send_all(store, &pipeline(), nodes, SystemTime::now());
                assert_eq!(remote.trouble(), None);
            });
        }
    });
    let empty = tempfile::tempdir().unwrap();
    let store = store(empty.path());
    assert!(pulled(&remote(&objects), &store, &writers[0].1).iter().all(Option::is_some));
    assert!(store.verify_all().unwrap().faults.is_empty());
}

#[test]
fn what_nobody_used_for_long_goes_and_nothing_else() {
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let (folder, objects, nodes) = sent();
    let gone = |objects: &Memory| remote(objects).garbage(days(30)).unwrap().objects;
    assert!(gone(&objects).is_empty());
    // The pipeline's runs used it lately.
    objects.age(40);
    let bundle = objects.paths("bundles/").remove(0);
    objects.inside().objects.get_mut(&bundle).unwrap().1 = SystemTime::now();
    assert!(gone(&objects).is_empty());
    // What a run has just sent, and what only that names.
    objects.age(40);
    let record = record_path(&nodes["folder"].key);
    objects.inside().objects.get_mut(&record).unwrap().1 = SystemTime::now();
    let removed = remote(&objects).garbage(days(30)).unwrap();
    assert_eq!((removed.kept, removed.objects.len()), (1, 3), "{removed:?}");
    remote(&objects).remove(&removed).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let came = pulled(&remote(&objects), &store(empty.path()), &nodes);
    assert_eq!(came.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    // Whoever sends what is old makes it new.
    let (first, sending) = (store(folder.path()), remote(&objects));
    sending.prepare(&pipeline());
    sending.send_all(&first, &pipeline(), &nodes, SystemTime::now());
    assert!(gone(&objects).is_empty());
    // Nobody knows what a damaged bundle needs.
    objects.age(40);
    objects.inside().objects.insert(bundle, (b"damaged".to_vec(), SystemTime::now()));
    assert!(remote(&objects).garbage(days(30)).is_err());
    assert!(remote(&objects).garbage(days(1)).is_err());
}

#[cfg(not(feature = "remote"))]
#[test]
fn a_build_without_remotes_says_how_to_get_one() {
    let (readonly, pixels, required, patience) = (false, false, Required::default(), Duration::from_secs(1));
    let error = Remote::open("s3://team/maple", Usage { readonly, pixels, required, patience }).unwrap_err();
    assert!(error.hint().unwrap().contains("cargo build --release --locked --features remote"), "{error}");
}
