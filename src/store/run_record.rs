//! What a run leaves behind besides its results: when it was, of what, where, and how each node ended. One JSON object
//! a line: the run, then its nodes.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::create_parent;
use crate::text::{clock, did_you_mean, duration};

/// One run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunRecord {
    /// `<UTC time>-<six digits>`.
    pub id: String,
    /// When it started, UTC.
    pub started: jiff::Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub end: End,
    /// How many nodes stand how.
    pub counts: BTreeMap<NodeEnd, usize>,
    /// What was asked for.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// The version of this program.
    pub version: String,
    /// Its [`crate::identity::BUILD`]; absent in records of versions that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// What was checked out of the pipeline's repository, where it is in one.
    pub commit: Option<Commit>,
    /// The computer's name.
    pub host: String,
    /// The number of the run's process; absent in records of versions that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
}

/// What a run was asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Invocation {
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's file.
    pub file: PathBuf,
    /// The folder of the data sets' folders, where one was named.
    pub data_root: Option<PathBuf>,
    /// The values that were replaced, as `--set` takes them.
    pub overrides: Vec<String>,
    /// The command line, without the program.
    pub arguments: Vec<String>,
    /// What nodes that compute with libtorch ran on; empty where no node ran.
    pub devices: Vec<String>,
}

/// A state of a git repository.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Commit {
    /// The commit's hash.
    pub id: String,
    /// Files that git knows had changed since.
    pub dirty: bool,
}

/// How a run ended, or that it has not.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Every node is done.
    Done,
    /// A node failed.
    Failed,
    /// It was stopped before it was through.
    Interrupted,
    /// It goes on.
    Running,
    /// It ended without a word.
    Killed,
}

/// One node of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunNode {
    /// Its name.
    pub node: String,
    /// How it ended.
    pub end: NodeEnd,
    /// Its key, where that came to be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// When it began, where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<jiff::Timestamp>,
    /// How long it took until its outputs were stored, where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How far it is, or whom it waits for, while the run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
}

/// How a node ended, or that it has not.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeEnd {
    /// It runs.
    Running,
    /// It ran.
    Done,
    /// It had nothing to do.
    Cached,
    /// It failed.
    Failed,
    /// Something it needs failed.
    Blocked,
    /// It ran when the run was stopped.
    Interrupted,
    /// Its turn did not come.
    NotStarted,
}

impl RunNode {
    /// The key of the record that holds its result, if it has one.
    pub fn result(&self) -> Option<Digest> {
        self.key.filter(|_| matches!(self.end, NodeEnd::Done | NodeEnd::Cached))
    }
}

impl RunRecord {
    /// Counts how its nodes stand.
    pub fn count(&mut self, nodes: &[RunNode]) {
        self.counts.clear();
        nodes.iter().for_each(|node| *self.counts.entry(node.end).or_default() += 1);
    }

    /// How it ended and when: `done in 4.2s`, `running for 3m 05s`.
    pub fn outcome(&self) -> String {
        match self.end {
            End::Running => format!("running for {}", clock(self.seconds as u64)),
            End::Killed => format!("killed after {}", duration(self.seconds)),
            end => format!("{end} in {}", duration(self.seconds)),
        }
    }

    /// The program, as people name it: `maple-pipe 0.1.0 (build 3f2a90c1d2e4)`.
    pub fn program(&self) -> String {
        let build = self.build.as_ref().map_or_else(String::new, |build| format!(" (build {})", build));
        format!("maple-pipe {}{build}", self.version)
    }

    /// A new identifier: unlike those of runs that start at the same moment on the same or another computer.
    pub fn new_id(started: jiff::Timestamp, host: &str) -> String {
        let seed = format!("{host} {} {}", std::process::id(), started.as_nanosecond());
        format!("{}-{}", started.strftime("%Y%m%dT%H%M%SZ"), &Digest::of(seed.as_bytes()).to_string()[..6])
    }
}

impl Store {
    /// Keeps what a run did. It outlasts any end of this process, but is not worth the wait for the disk.
    pub fn keep_run(&self, run: &RunRecord, nodes: &[RunNode]) -> Result<()> {
        let path = self.run_path(&run.id);
        let mut text = Vec::new();
        let mut write = || -> serde_json::Result<()> {
            serde_json::to_writer(&mut text, run)?;
            for node in nodes {
                text.push(b'\n');
                serde_json::to_writer(&mut text, node)?;
            }
            text.push(b'\n');
            Ok(())
        };
        write().map_err(|error| Error::format(&path, FORMAT, error))?;
        create_parent(&path)?;
        let mut file = self.scratch()?.file()?;
        file.as_file_mut().write_all(&text).map_err(Error::io("write", &path))?;
        file.persist(&path).map_err(|error| Error::io("write", &path)(error.error))?;
        Ok(())
    }

    /// All runs, newest first, with those that go on or were killed; a damaged record counts as absent.
    pub fn runs(&self) -> Result<Vec<RunRecord>> {
        // Asked first: a run that ends meanwhile is found among the others.
        let journals = self.journals()?;
        let mut runs = self.ended_runs()?;
        let ended: HashSet<String> = runs.iter().map(|run| run.id.clone()).collect();
        runs.extend(journals.into_iter().map(|(run, _)| run).filter(|run| !ended.contains(&run.id)));
        runs.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| b.id.cmp(&a.id)));
        Ok(runs)
    }

    /// The runs that have a record, in no order.
    fn ended_runs(&self) -> Result<Vec<RunRecord>> {
        let folder = self.root.join("runs");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", &folder))?,
        };
        let runs = entries
            .filter_map(|entry| {
                let mut line = String::new();
                BufReader::new(File::open(entry.ok()?.path()).ok()?).read_line(&mut line).ok()?;
                serde_json::from_str(&line).ok()
            })
            .collect();
        Ok(runs)
    }

    /// The run that is called `last`, `last~2`, or by the first digits of its identifier or of that's last part.
    pub fn find_run(&self, name: &str) -> Result<RunRecord> {
        let mut runs = self.runs()?;
        if let Some(rest) = name.strip_prefix("last")
            && let Some(back) =
                if rest.is_empty() { Some(0) } else { rest.strip_prefix('~').and_then(|n| n.parse().ok()) }
        {
            let count = runs.len();
            let missing = || Error::invalid(format!("there is no run `{name}`: the store knows of {count}"));
            return runs.drain(..).nth(back).ok_or_else(missing);
        }
        let is_meant = |run: &RunRecord| {
            let digits = run.id.rsplit('-').next().unwrap_or_default();
            !name.is_empty() && (run.id.starts_with(name) || digits.starts_with(name))
        };
        let ids: Vec<String> = runs.iter().map(|run| run.id.clone()).collect();
        runs.retain(is_meant);
        match runs.as_slice() {
            [run] => Ok(run.clone()),
            [] => {
                let hint =
                    did_you_mean(name, &ids).unwrap_or("`maple-pipe runs` lists them; `last` is the newest".into());
                Err(Error::hinted(format!("there is no run `{name}`"), hint))
            }
            several => {
                let ids: Vec<String> = several.iter().map(|run| format!("`{}`", run.id)).collect();
                Err(Error::hinted(
                    format!("`{name}` may be any of {} runs", several.len()),
                    format!("say more of it: {}", ids.join(", ")),
                ))
            }
        }
    }

    /// The nodes of a run, those of one that goes on as they stand now.
    pub fn run_nodes(&self, run: &RunRecord) -> Result<Vec<RunNode>> {
        let path = self.run_path(&run.id);
        if !path.exists()
            && let Some((_, nodes)) = self.journal(&run.id)
        {
            return Ok(nodes);
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let damaged = |error: serde_json::Error| Error::format(&path, FORMAT, error);
        let mut lines = text.lines();
        let kept: RunRecord = read_line(lines.next().unwrap_or_default()).map_err(damaged)?;
        let nodes: Vec<RunNode> = lines.map(read_line).collect::<serde_json::Result<_>>().map_err(damaged)?;
        let expected = kept.counts.values().sum::<usize>();
        if nodes.len() != expected {
            return Err(Error::format(&path, FORMAT, format!("it has {} of {expected} nodes", nodes.len())));
        }
        Ok(nodes)
    }

    pub(super) fn run_path(&self, id: &str) -> PathBuf {
        self.root.join("runs").join(format!("{id}.jsonl"))
    }
}

const FORMAT: &str = "run record";

fn read_line<T: DeserializeOwned>(line: &str) -> serde_json::Result<T> {
    serde_json::from_str(line)
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            End::Done => "done",
            End::Failed => "failed",
            End::Interrupted => "interrupted",
            End::Running => "running",
            End::Killed => "killed",
        })
    }
}

impl fmt::Display for NodeEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            NodeEnd::Running => "running",
            NodeEnd::Done => "done",
            NodeEnd::Cached => "cached",
            NodeEnd::Failed => "failed",
            NodeEnd::Blocked => "blocked",
            NodeEnd::Interrupted => "interrupted",
            NodeEnd::NotStarted => "not started",
        })
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.id.chars().take(7).collect();
        write!(formatter, "{short}{}", if self.dirty { " dirty" } else { "" })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::store) fn node(name: &str, end: NodeEnd) -> RunNode {
        RunNode { node: name.to_owned(), end, key: None, started: None, seconds: None, progress: None }
    }

    pub(in crate::store) fn run(second: i64) -> RunRecord {
        let started = jiff::Timestamp::from_second(second).unwrap();
        RunRecord {
            id: RunRecord::new_id(started, "host"),
            started,
            seconds: 1.0,
            end: End::Done,
            counts: BTreeMap::from([(NodeEnd::Cached, 1)]),
            invocation: Invocation {
                pipeline: "tiny".to_owned(),
                file: "/tiny.toml".into(),
                data_root: None,
                overrides: Vec::new(),
                arguments: Vec::new(),
                devices: Vec::new(),
            },
            version: "1".to_owned(),
            build: None,
            commit: None,
            host: "host".to_owned(),
            process: None,
        }
    }

    #[test]
    fn runs_are_found_by_age_and_by_what_their_names_start_with() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let node = node("a", NodeEnd::Cached);
        for second in [30, 10, 20] {
            store.keep_run(&run(second), std::slice::from_ref(&node)).unwrap();
        }
        fs::write(store.run_path("damaged"), "{").unwrap();
        let started = |name: &str| store.find_run(name).map(|run| run.started.as_second());
        assert_eq!(store.runs().unwrap().len(), 3);
        assert_eq!((started("last").unwrap(), started("last~2").unwrap()), (30, 10));
        assert_eq!(started("19700101T000020Z").unwrap(), 20);
        assert_eq!(started(run(10).id.rsplit('-').next().unwrap()).unwrap(), 10);
        for wrong in ["", "last~3", "last~x", "19700101", "2026"] {
            assert!(started(wrong).is_err(), "{wrong}");
        }
        assert_eq!(store.run_nodes(&run(20)).unwrap().len(), 1);
        let path = store.run_path(&run(20).id);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.lines().next().unwrap()).unwrap();
        assert!(store.run_nodes(&run(20)).unwrap_err().to_string().contains("0 of 1 nodes"));
    }
}
