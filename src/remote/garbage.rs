//! What nobody has used of a remote for long, and its removal. What the runs of a pipeline last used stands in its bundle, so
//! no pipeline has to be read for it. A run that begins in the meantime is safe: what it relies on is new.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::bundle::Bundle;
use super::{AT_ONCE, Fault, MOST_OF_BUNDLE, Object, RELIABLE, Remote, at_once};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Record;

/// What may go.
#[derive(Debug, Default)]
pub struct Garbage {
    /// In the order of removal: what refers to others first.
    pub objects: Vec<Object>,
    /// How many results stay.
    pub kept: usize,
}

/// The folders of a remote, in the order in which things are removed.
const FOLDERS: [&str; 5] = ["bundles", "records", "artifacts", "folders", "pixels"];

impl Garbage {
    /// By what it is: how many objects, and their bytes.
    pub fn counts(&self) -> BTreeMap<&str, (usize, u64)> {
        let mut counts = BTreeMap::new();
        for object in &self.objects {
            let folder = object.path.split('/').next().unwrap_or_default();
            let (count, bytes) = counts.entry(folder).or_insert((0, 0));
            *count += 1;
            *bytes += object.size;
        }
        counts
    }

    /// All bytes that would be free.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }
}

impl Remote {
    /// Finds what was neither written nor used by a run of a pipeline for `grace`.
    ///
    /// # Errors
    /// The grace is too short, or the remote cannot be read as a whole: then nobody knows what may go.
    pub fn garbage(&self, grace: Duration) -> Result<Garbage> {
        if grace <= RELIABLE {
            return Err(Error::hinted(
                "the grace is too short: a run may rely for a day on what it found",
                "name at least 2 days: `--grace 2`",
            ));
        }
        self.know();
        self.check()?;
        let listed = FOLDERS.map(|folder| self.objects.list(folder));
        let [bundles, records, artifacts, folders, pixels] = listed;
        let (bundles, records) = (self.sure(bundles)?, self.sure(records)?);
        let (artifacts, folders, pixels) = (self.sure(artifacts)?, self.sure(folders)?, self.sure(pixels)?);
        let is_new = |object: &&Object| object.age() < grace;

        let new: Vec<&Object> = bundles.iter().filter(is_new).collect();
        let read = at_once(AT_ONCE, &new, |bundle| {
            let mut content = Vec::new();
            let read = self.objects.read(&bundle.path, MOST_OF_BUNDLE, &mut |chunk| {
                content.extend_from_slice(chunk);
                Ok(())
            });
            self.sure(read).map(|_| Bundle::read(&content))
        });
        let mut used = Bundle::default();
        for bundle in read {
            let (bundle, is_whole) = bundle?;
            if !is_whole {
                return Err(self.unsure("a bundle in it is damaged, so nobody knows what its pipeline needs"));
            }
            used.records.extend(bundle.records);
            used.pixels.extend(bundle.pixels);
        }

        let key = |object: &Object| Digest::parse(name(object).strip_suffix(".json")?);
        let is_kept =
            |object: &&Object| is_new(object) || key(object).is_some_and(|key| used.records.contains_key(&key));
        let kept: Vec<&Object> = records.iter().filter(is_kept).collect();
        // Another than the one in the bundle may have been written since.
        let read = at_once(AT_ONCE, &kept, |object| key(object).and_then(|key| self.record(&key)));
        self.check()?;
        let mut needed: HashSet<Digest> = HashSet::new();
        let all = read.iter().flatten().chain(used.records.values());
        needed.extend(all.flat_map(|record: &Record| record.outputs.values().map(|artifact| artifact.digest)));

        let is_needed = |object: &Object| Digest::parse(name(object)).is_some_and(|digest| needed.contains(&digest));
        let old = |objects: &[Object], stays: &dyn Fn(&Object) -> bool| -> Vec<Object> {
            objects.iter().filter(|object| !is_new(object) && !stays(object)).cloned().collect()
        };
        let objects = [
            old(&bundles, &|_| false),
            old(&records, &|object| is_kept(&object)),
            old(&artifacts, &is_needed),
            old(&folders, &is_needed),
            old(&pixels, &|object| used.pixels.contains(name(object))),
        ];
        Ok(Garbage { objects: objects.concat(), kept: kept.len() })
    }

    /// Removes it all.
    ///
    /// # Errors
    /// Something cannot be removed; what it refers to stays.
    pub fn remove(&self, garbage: &Garbage) -> Result<()> {
        for folder in FOLDERS {
            let objects: Vec<&Object> =
                garbage.objects.iter().filter(|object| object.path.starts_with(&format!("{folder}/"))).collect();
            let removed = at_once(AT_ONCE, &objects, |object| self.objects.remove(&object.path));
            removed.into_iter().try_for_each(|removed| self.sure(removed))?;
        }
        Ok(())
    }

    /// What must be known before anything is removed.
    fn sure<T>(&self, answer: Result<T, Fault>) -> Result<T> {
        self.state().traffic.requests += 1;
        answer.map_err(|fault| match fault {
            Fault::Remote(message) | Fault::Object(message) | Fault::Here(message) => self.unsure(&message),
            Fault::Stopped => Error::Interrupted,
        })
    }

    fn unsure(&self, message: &str) -> Error {
        Error::Remote { remote: self.name.clone(), message: message.to_owned(), hint: None }
    }
}

/// What stands behind the last `/` of an object's path.
fn name(object: &Object) -> &str {
    object.path.rsplit('/').next().unwrap_or_default()
}
