//! What a running stage tells the run, and what it hears from it.

use maple_pipe::task::Progress;

/// The run's side of a stage.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    progress: &'a dyn Fn(Progress),
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Control<'a> {
    /// Progress goes to `progress`; once `stop` is true the stage is to keep its state and end with
    /// [`maple_pipe::error::Error::Interrupted`].
    pub fn new(progress: &'a dyn Fn(Progress), stop: &'a dyn Fn() -> bool) -> Control<'a> {
        Control { progress, stop }
    }

    /// The same with another listener.
    pub fn with_progress<'b>(&'b self, progress: &'b dyn Fn(Progress)) -> Control<'b> {
        Control { progress, stop: self.stop }
    }

    /// Tells how far the stage is.
    pub fn progress(&self, progress: Progress) {
        (self.progress)(progress);
    }

    /// Whether the stage should stop.
    pub fn is_stopping(&self) -> bool {
        (self.stop)()
    }
}
