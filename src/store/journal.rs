//! What a run that goes on has done so far: a file that the run has locked, one JSON object a line: the run, its nodes, and a
//! node again whenever something happens to it. The run removes it when its record is kept, so one that nobody has locked is
//! that of a run that was killed.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::{End, NodeEnd, RunNode, RunRecord, Store};
use crate::error::{Error, Result};
use crate::files::create_parent;

/// The journal of this process's run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Writes down how a node stands now. A journal that cannot be written is no reason to stop.
    pub fn add(&mut self, node: &RunNode) {
        let line = serde_json::to_string(node).expect("plain data") + "\n";
        let _ = self.file.write_all(line.as_bytes());
    }

    /// The run's record is kept.
    pub fn remove(self) {
        // Still locked, so that nobody takes the run for killed.
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// Begins the journal of a run.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn begin_journal(&self, run: &RunRecord, nodes: &[RunNode]) -> Result<Journal> {
        let path = self.journal_path(&run.id);
        create_parent(&path)?;
        let mut file = File::options().append(true).create_new(true).open(&path).map_err(Error::io("create", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        let mut text = serde_json::to_string(run).expect("plain data") + "\n";
        nodes.iter().for_each(|node| text += &(serde_json::to_string(node).expect("plain data") + "\n"));
        file.write_all(text.as_bytes()).map_err(Error::io("write", &path))?;
        Ok(Journal { path, file })
    }

    /// The runs that go on or were killed, with their nodes, in no order.
    pub(super) fn journals(&self) -> Result<Vec<(RunRecord, Vec<RunNode>)>> {
        let folder = self.root.join("live");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", &folder))?,
        };
        Ok(entries.filter_map(|entry| read(&entry.ok()?.path())).collect())
    }

    /// The journal of one run, if it is there.
    pub(super) fn journal(&self, id: &str) -> Option<(RunRecord, Vec<RunNode>)> {
        read(&self.journal_path(id))
    }

    pub(super) fn journal_path(&self, id: &str) -> PathBuf {
        self.root.join("live").join(format!("{id}.jsonl"))
    }
}

/// Reads a journal; lines that are not whole count for nothing, and without its first the whole does.
fn read(path: &Path) -> Option<(RunRecord, Vec<RunNode>)> {
    let file = File::open(path).ok()?;
    // Asked before it is read: what ends meanwhile still runs.
    let goes_on = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let mut reader = BufReader::new(&file);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut run: RunRecord = serde_json::from_str(&first).ok()?;
    let mut text = Vec::new();
    reader.read_to_end(&mut text).ok()?;
    let mut nodes: Vec<RunNode> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for node in text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<RunNode>(line).ok()) {
        match places.get(&node.node) {
            Some(&place) => nodes[place] = node,
            None => {
                places.insert(node.node.clone(), nodes.len());
                nodes.push(node);
            }
        }
    }
    let until = match goes_on {
        true => jiff::Timestamp::now(),
        false => jiff::Timestamp::try_from(file.metadata().ok()?.modified().ok()?).ok()?,
    };
    run.end = if goes_on { End::Running } else { End::Killed };
    run.seconds = until.duration_since(run.started).as_secs_f64().max(0.0);
    for node in nodes.iter_mut().filter(|node| node.end == NodeEnd::Running) {
        if goes_on {
            node.seconds = node.started.map(|started| until.duration_since(started).as_secs_f64().max(0.0));
        } else {
            node.end = NodeEnd::Interrupted;
        }
    }
    run.count(&nodes);
    Some((run, nodes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::run_record::tests::{node, run};

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_run_goes_on_while_it_holds_its_journal_and_was_killed_when_it_does_not() {
        let (_folder, store) = store();
        let nodes = ["a", "b"].map(|name| node(name, NodeEnd::NotStarted));
        let mut journal = store.begin_journal(&run(20), &nodes).unwrap();
        journal.add(&RunNode { progress: Some("epoch 1/2".to_owned()), ..node("a", NodeEnd::Running) });
        let [found] = store.runs().unwrap().try_into().unwrap();
        assert_eq!(found.end, End::Running);
        assert_eq!(found.counts, [(NodeEnd::Running, 1), (NodeEnd::NotStarted, 1)].into());
        let nodes = store.run_nodes(&found).unwrap();
        assert_eq!((nodes[0].end, nodes[0].progress.as_deref()), (NodeEnd::Running, Some("epoch 1/2")));
        assert_eq!((nodes[1].node.as_str(), nodes[1].end), ("b", NodeEnd::NotStarted));
        // What a kill cuts off counts for nothing.
        journal.file.write_all(b"{\"node\":\"b\",\"en").unwrap();
        drop(journal);
        let killed = store.find_run("last").unwrap();
        assert_eq!(killed.end, End::Killed);
        assert_eq!(killed.counts, [(NodeEnd::Interrupted, 1), (NodeEnd::NotStarted, 1)].into());
        assert_eq!(store.run_nodes(&killed).unwrap().len(), 2);
    }

    #[test]
    fn a_run_that_is_recorded_is_listed_once_and_leaves_no_journal() {
        let (_folder, store) = store();
        let nodes = [node("a", NodeEnd::Cached)];
        let journal = store.begin_journal(&run(20), &nodes).unwrap();
        let live = store.find_run("last").unwrap();
        store.keep_run(&run(20), &nodes).unwrap();
        assert_eq!(store.runs().unwrap().iter().map(|run| run.end).collect::<Vec<_>>(), [End::Done]);
        journal.remove();
        assert!(!store.journal_path(&live.id).exists());
        // Whoever saw it going on finds its nodes in the record.
        assert_eq!(store.run_nodes(&live).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_journal_counts_for_nothing() {
        let (_folder, store) = store();
        store.begin_journal(&run(20), &[]).unwrap();
        for (name, text) in [("empty", ""), ("cut", "{\"id\":"), ("binary", "\u{0}\n\u{0}")] {
            fs::write(store.journal_path(name), text).unwrap();
        }
        assert_eq!(store.runs().unwrap().len(), 1);
    }
}
