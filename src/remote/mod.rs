//! A store that a team shares: results are pulled from it before nodes run, and sent to it when they are made. It is a help and
//! never a need: where it is down, slow, or holds damaged objects, a run goes on with the local store.
//!
//! ```text
//! records/ab/abcd....json      what the node with this key left; sent last, so that it proves the rest
//! artifacts/ab/abcd...         a file, or the listing of a folder, under the blake3 of its content
//! folders/ab/abcd...           the files of a folder, one behind the other in the order of its listing
//! bundles/ab/abcd....tar.gz    what a pipeline's runs last used: all records and small artifacts in one object
//! pixels/<digest>.pixels       prepared pixels, where somebody asked for sharing them
//! format                       the number of this layout; a program leaves a remote with a higher one alone
//! ```
//!
//! Whatever comes is compared with its digest or its checksum before it counts.

#[cfg(feature = "remote")]
mod bucket;
mod bundle;
mod garbage;
mod objects;
mod pull;
mod push;
mod required;
mod settings;
#[cfg(feature = "remote")]
mod web;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

pub use garbage::Garbage;
pub use objects::{Fault, Object, Objects};
pub use required::{Required, Requirement};
pub use settings::RemoteSettings;

use crate::digest::Digest;
use crate::download::shown;
use crate::error::{Error, Result};
use crate::store::ArtifactKind;
use crate::text::{bytes, plural};
use bundle::Bundle;

/// The format of a remote that this program makes and reads.
pub const FORMAT: u32 = 1;
const FORMAT_PATH: &str = "format";

/// Requests at the same time: what takes a request is mostly the way there and back.
const AT_ONCE: usize = 64;
/// Bytes of a record at most.
const MOST_OF_RECORD: u64 = 16 << 20;
/// Bytes of a bundle at most.
const MOST_OF_BUNDLE: u64 = 256 << 20;
/// For how long an object that is there may count as sent. Whoever removes old objects must not remove one that somebody
/// has just relied on; so its grace is longer.
const RELIABLE: Duration = Duration::from_secs(24 * 60 * 60);

/// How a remote is used.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Nothing is sent.
    pub readonly: bool,
    /// Prepared pixels are shared, too.
    pub pixels: bool,
    /// What results from elsewhere must have been made by.
    pub required: Required,
    /// How long it may be silent.
    pub patience: Duration,
}

/// A store that a team shares.
#[derive(Debug)]
pub struct Remote {
    /// Its address, without what is secret in it.
    name: String,
    objects: Box<dyn Objects>,
    usage: Usage,
    /// The user asked to stop.
    stopped: Arc<AtomicBool>,
    state: Mutex<State>,
}

/// What is known of a remote, and what was done with it.
#[derive(Debug, Default)]
struct State {
    /// Nothing more is read from it or sent to it.
    is_lost: bool,
    /// Nothing more is sent to it.
    takes_nothing: bool,
    /// What is amiss with it, until it is told.
    trouble: Option<Trouble>,
    /// The user knows that something is amiss.
    was_told: bool,
    /// Its format is known.
    is_known: bool,
    /// It says no format.
    lacks_format: bool,
    /// The pipeline's bundle, and the object that it was read from.
    bundle: Bundle,
    bundle_object: Option<Object>,
    /// Keys whose records it has.
    records: HashSet<Digest>,
    /// Artifacts that it has.
    artifacts: HashSet<(ArtifactKind, Digest)>,
    /// Paths of objects that are not what they should be.
    damaged: BTreeSet<String>,
    traffic: Traffic,
}

impl State {
    /// What the user is to know, unless something was told before.
    fn tell(&mut self, message: String, hint: String) {
        if !std::mem::replace(&mut self.was_told, true) {
            self.trouble = Some(Trouble { message, hint });
        }
    }
}

/// What went to and fro.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Traffic {
    /// Its address, without what is secret in it.
    pub remote: String,
    /// Results that were pulled.
    pub pulled: usize,
    /// Bytes that came.
    pub pulled_bytes: u64,
    /// Results that were sent.
    pub sent: usize,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Requests.
    pub requests: usize,
    /// Results that were left because something else was required of what made them.
    pub refused: usize,
    /// Objects that were not what they should be.
    pub damaged: usize,
}

impl fmt::Display for Traffic {
    /// `remote s3://team/maple: 20 results pulled (1.2 MB), 1 result sent (3.4 kB), 5 requests`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = |count| plural(count, "result", "results");
        let (pulled, sent) = (results(self.pulled), results(self.sent));
        write!(formatter, "remote {}: {pulled} pulled ({})", self.remote, bytes(self.pulled_bytes))?;
        if self.sent_bytes > 0 {
            write!(formatter, ", {sent} sent ({})", bytes(self.sent_bytes))?;
        }
        write!(formatter, ", {}", plural(self.requests, "request", "requests"))?;
        if self.refused > 0 {
            write!(formatter, ", {} not taken, as `--require` asks", results(self.refused))?;
        }
        if self.damaged > 0 {
            write!(formatter, ", {}", plural(self.damaged, "damaged object", "damaged objects"))?;
        }
        Ok(())
    }
}

/// Something is amiss with a remote; work goes on without it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Remote {
    /// The remote at an address. Nothing is asked before it is needed.
    ///
    /// # Errors
    /// The address is none, or the environment lacks what it needs; this program was built without remotes.
    #[cfg(feature = "remote")]
    pub fn open(address: &str, usage: Usage) -> Result<Remote> {
        let stopped = Arc::default();
        let objects = bucket::Bucket::open(address, usage.patience, &stopped)?;
        Ok(Remote { stopped, ..Remote::of(shown(address), objects, usage) })
    }

    /// The remote at an address. Nothing is asked before it is needed.
    ///
    /// # Errors
    /// The address is none, or the environment lacks what it needs; this program was built without remotes.
    #[cfg(not(feature = "remote"))]
    pub fn open(address: &str, usage: Usage) -> Result<Remote> {
        let _ = usage;
        Err(Error::hinted(
            format!("the remote `{}` cannot be used: this program was built without remotes", shown(address)),
            "build it with them: `cargo build --release --locked --features remote`",
        ))
    }

    /// A remote of these objects.
    #[cfg_attr(
        not(any(feature = "remote", test)),
        expect(dead_code, reason = "nothing opens a remote without the feature")
    )]
    fn of(name: String, objects: Box<dyn Objects>, usage: Usage) -> Remote {
        let traffic = Traffic { remote: name.clone(), ..Traffic::default() };
        let state = Mutex::new(State { traffic, ..State::default() });
        Remote { name, objects, usage, stopped: Arc::default(), state }
    }

    /// Whether nothing is sent to it.
    pub fn is_readonly(&self) -> bool {
        self.usage.readonly
    }

    /// Its address, without what is secret in it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends what goes on as soon as possible, and begins nothing more; whether it was told so before.
    pub fn stop(&self) -> bool {
        self.stopped.swap(true, Relaxed)
    }

    /// What is amiss, once.
    pub fn trouble(&self) -> Option<Trouble> {
        self.state().trouble.take()
    }

    /// What went to and fro so far.
    pub fn traffic(&self) -> Traffic {
        self.state().traffic.clone()
    }

    /// Whether nothing was amiss.
    ///
    /// # Errors
    /// What was; for commands that are for the remote alone.
    pub fn check(&self) -> Result<()> {
        match self.trouble() {
            Some(Trouble { message, hint }) => Err(Error::Found { message, hint: Some(hint) }),
            None => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything may be read.
    fn is_there(&self) -> bool {
        !self.stopped.load(Relaxed) && !self.state().is_lost
    }

    /// Whether anything may be sent.
    fn takes(&self) -> bool {
        self.is_there() && !self.usage.readonly && !self.state().takes_nothing
    }

    /// Reads an object of at most so many bytes; none where it cannot be had.
    fn get(&self, path: &str, most: u64) -> Option<(Object, Vec<u8>)> {
        let mut content = Vec::new();
        let object = self.get_into(path, most, &mut |chunk| {
            content.extend_from_slice(chunk);
            Ok(())
        })?;
        Some((object, content))
    }

    /// Hands an object of at most so many bytes to `take`, piece by piece; none where it cannot be had as a whole.
    fn get_into(&self, path: &str, most: u64, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Option<Object> {
        if !self.is_there() {
            return None;
        }
        let mut length = 0;
        let read = self.objects.read(path, most, &mut |chunk| {
            length += chunk.len() as u64;
            if self.stopped.load(Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { take(chunk) }
        });
        let mut state = self.state();
        state.traffic.requests += 1;
        state.traffic.pulled_bytes += length;
        drop(state);
        read.unwrap_or_else(|fault| {
            self.note(path, fault, false);
            None
        })
    }

    /// Writes an object; whether it is there now.
    fn put(&self, path: &str, content: Bytes) -> bool {
        if !self.takes() {
            return false;
        }
        let length = content.len() as u64;
        let written = self.objects.write(path, content);
        let mut state = self.state();
        state.traffic.requests += 1;
        match written {
            Ok(()) => {
                state.traffic.sent_bytes += length;
                state.damaged.remove(path);
                true
            }
            Err(fault) => {
                drop(state);
                self.note(path, fault, true);
                false
            }
        }
    }

    /// Looks at an object; none where it is absent or the answer cannot be had.
    fn look(&self, path: &str) -> Option<Object> {
        if !self.is_there() {
            return None;
        }
        let found = self.objects.look(path);
        self.state().traffic.requests += 1;
        found.unwrap_or_else(|fault| {
            self.note(path, fault, false);
            None
        })
    }

    /// Takes note of what is amiss. The user is told the first of it; what comes then follows from it, or is alike.
    fn note(&self, path: &str, fault: Fault, is_sent: bool) {
        const LATER: &str = "`maple-pipe push` sends later what is missing there";
        if self.stopped.load(Relaxed) {
            // Whatever failed may have been cut off by that.
            return;
        }
        let name = &self.name;
        let mut state = self.state();
        let (message, hint) = match fault {
            Fault::Stopped => return,
            Fault::Remote(message) if is_sent => {
                state.takes_nothing = true;
                let hint = format!("{LATER}; `--remote-readonly` sends nothing");
                (format!("nothing more is sent to the remote `{name}`: {message}"), hint)
            }
            Fault::Remote(message) => {
                state.is_lost = true;
                let hint = format!("the local store does without it; {LATER}");
                (format!("the remote `{name}` cannot be used: {message}"), hint)
            }
            Fault::Object(message) => {
                if state.damaged.insert(path.to_owned()) {
                    state.traffic.damaged += 1;
                }
                let hint = "what is damaged counts as absent; a run that makes it again, or `maple-pipe push` from a store \
                            that has it, replaces it";
                (format!("the remote `{name}` holds a damaged object, `{path}`: {message}"), hint.to_owned())
            }
            Fault::Here(message) => {
                // The disk that is full for this is full for the next.
                state.is_lost = true;
                let hint = "the local store does without the remote from here on".to_owned();
                (format!("what the remote `{name}` sent could not be kept: {message}"), hint)
            }
        };
        state.tell(message, hint);
    }

    /// Looks once whether this program knows the remote's format.
    fn know(&self) {
        if std::mem::replace(&mut self.state().is_known, true) {
            return;
        }
        let Some((_, text)) = self.get(FORMAT_PATH, 1 << 10) else {
            self.state().lacks_format = true;
            return;
        };
        let format = String::from_utf8(text).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if format.is_none_or(|format| format > FORMAT) {
            let format = format.map_or("an unknown format".to_owned(), |format| format!("format {format}"));
            let message = format!("it has {format}, and this program knows those up to {FORMAT}");
            self.note(FORMAT_PATH, Fault::Remote(message), false);
        }
    }
}

/// Where a remote keeps what has this digest.
fn place(kind: &str, digest: &Digest, ending: &str) -> String {
    let name = digest.to_string();
    format!("{kind}/{}/{name}{ending}", &name[..2])
}

fn record_path(key: &Digest) -> String {
    place("records", key, ".json")
}

fn bundle_path(name: &Digest) -> String {
    place("bundles", name, ".tar.gz")
}

/// Does something with many things, so many at the same time; the answers are in the order of the things.
fn at_once<T: Sync, A: Send>(threads: usize, things: &[T], work: impl Fn(&T) -> A + Sync) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(things.len()) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Relaxed);
                    let Some(thing) = things.get(place) else { return };
                    let answer = work(thing);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(place, answer);
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    (0..things.len()).map(|place| answers.remove(&place).expect("every thing has its answer")).collect()
}

#[cfg(test)]
mod tests;
