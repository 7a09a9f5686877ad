//! Work that takes long, and what is said in the meantime.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How often people are told how far something is.
pub const TICK: Duration = Duration::from_secs(1);

/// Does some work on another thread, and calls `say` after each `tick` until it is done.
pub fn watch<T: Send>(tick: Duration, say: &mut dyn FnMut(), work: impl FnOnce() -> T + Send) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(work()));
        loop {
            match receiver.recv_timeout(tick) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => say(),
                Err(RecvTimeoutError::Disconnected) => panic!("the work on another thread panicked"),
            }
        }
    })
}
