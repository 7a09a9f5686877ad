//! Ctrl-C and the signals that ask a program to end, as messages to the scheduler.
//!
//! The first asks running nodes to stop where they can go on later; the second kills them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// What the scheduler does at an interrupt.
type Listener = Box<dyn FnMut() + Send>;

/// Passes the process's interrupts on to whoever listens.
#[derive(Clone, Default)]
pub struct Interrupts(Arc<Mutex<Option<Listener>>>);

impl std::fmt::Debug for Interrupts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Interrupts")
    }
}

impl Interrupts {
    /// Takes over SIGINT, SIGTERM and SIGHUP; once a process. While nobody listens, they end the process as usual.
    ///
    /// # Errors
    /// They were taken over before.
    pub fn install() -> Result<Interrupts> {
        let interrupts = Interrupts::default();
        let shared = interrupts.clone();
        let handle = move || match shared.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(listener) => listener(),
            None => std::process::exit(crate::error::INTERRUPTED.into()),
        };
        ctrlc::set_handler(handle).map_err(|error| Error::invalid(format!("could not listen to signals: {error}")))?;
        Ok(interrupts)
    }

    /// Calls `listener` at each interrupt until the returned guard is dropped.
    pub(super) fn listen(&self, listener: impl FnMut() + Send + 'static) -> Listening<'_> {
        self.set(Some(Box::new(listener)));
        Listening(self)
    }

    fn set(&self, listener: Option<Listener>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }
}

/// While it lives, interrupts are listened to.
pub(super) struct Listening<'a>(&'a Interrupts);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}
