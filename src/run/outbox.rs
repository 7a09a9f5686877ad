//! Results on their way to a remote, while other nodes run.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use crate::remote::Remote;
use crate::store::{Record, Store};

/// How many results are sent at the same time.
const AT_ONCE: usize = 4;

/// Records whose results are to be sent, and the threads that send them; these end when it is dropped and all is sent.
pub(super) struct Outbox<'scope> {
    records: Sender<Arc<Record>>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Outbox<'scope> {
    pub fn new(scope: &'scope Scope<'scope, '_>, remote: &'scope Remote, store: &'scope Store) -> Outbox<'scope> {
        let (records, waiting) = mpsc::channel::<Arc<Record>>();
        let waiting = Arc::new(Mutex::new(waiting));
        let start = |_| {
            let waiting = waiting.clone();
            scope.spawn(move || {
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(record) = next() {
                    remote.send(store, &record);
                }
            })
        };
        Outbox { threads: (0..AT_ONCE).map(start).collect(), records }
    }

    /// Sends what a node has left, some time.
    pub fn add(&self, record: Arc<Record>) {
        drop(self.records.send(record));
    }

    /// Waits until all is sent.
    pub fn empty(self) {
        drop(self.records);
        for thread in self.threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}
