//! Ctrl-C and the signals that ask a program to end, as messages to the scheduler.
//!
//! The first asks running nodes to stop where they can go on later; the second kills them. The end of the terminal (SIGHUP) asks
//! only: it often comes twice, from the shell and from the system, and is ignored where `nohup` asks for that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use crate::error::{Error, INTERRUPTED, Result};
use crate::signals;

/// What the scheduler does at an interrupt.
type Listener = Box<dyn FnMut() + Send>;

/// Passes the process's interrupts on to whoever listens.
#[derive(Clone, Default)]
pub struct Interrupts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listener: Option<Listener>,
    /// There has been an interrupt.
    is_asked: bool,
}

impl std::fmt::Debug for Interrupts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Interrupts")
    }
}

impl Interrupts {
    /// Takes over SIGINT, SIGTERM, and SIGHUP unless it is ignored; once a process. While nobody listens, they end the process.
    ///
    /// # Errors
    /// They cannot be taken over.
    pub fn install() -> Result<Interrupts> {
        let failed = |error| Error::invalid(format!("could not listen to signals: {error}"));
        let mut signals = Signals::new(signals::of_the_end()).map_err(failed)?;
        let interrupts = Interrupts::default();
        let shared = interrupts.clone();
        let pass_on = move || {
            for signal in signals.forever() {
                let mut state = shared.lock();
                if std::mem::replace(&mut state.is_asked, true) && signal == SIGHUP {
                    continue;
                }
                match &mut state.listener {
                    Some(listener) => listener(),
                    None => std::process::exit(INTERRUPTED.into()),
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(pass_on).map_err(failed)?;
        Ok(interrupts)
    }

    /// Calls `listener` at each interrupt until the returned guard is dropped.
    pub(super) fn listen(&self, listener: impl FnMut() + Send + 'static) -> Listening<'_> {
        self.lock().listener = Some(Box::new(listener));
        Listening(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, interrupts are listened to.
pub(super) struct Listening<'a>(&'a Interrupts);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.lock().listener = None;
    }
}
