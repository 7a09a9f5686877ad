//! Results on their way to a remote, while other nodes run.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use crate::remote::Remote;
use crate::store::{Record, Store};

/// How many results are sent at the same time.
const AT_ONCE: usize = 4;

/// Takes records whose results are sent. The threads that send end when it is dropped and all is sent.
pub(super) fn outbox<'scope>(
    scope: &'scope Scope<'scope, '_>,
    remote: &'scope Remote,
    store: &'scope Store,
) -> Sender<Record> {
    let (outbox, waiting) = mpsc::channel::<Record>();
    let waiting = Arc::new(Mutex::new(waiting));
    for _ in 0..AT_ONCE {
        let waiting = waiting.clone();
        scope.spawn(move || {
            let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            while let Ok(record) = next() {
                remote.send(store, &record);
            }
        });
    }
    outbox
}
