//! The threads that execute jobs: as many as there were jobs at the same time, each one job after another.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use petgraph::graph::NodeIndex;

use super::job::{End, Job};
use crate::digest::Digest;
use crate::store::Record;
use crate::tally::Tally;
use crate::task::Progress;

/// What job threads and signals tell the scheduler.
pub(super) enum Message {
    Progress(NodeIndex, Progress),
    Finished(NodeIndex, Box<Result<(Record, Tally), End>>),
    /// What a remote has of what it was asked for.
    Answered(Vec<Answer>),
    /// A mistake of ours.
    Panicked(Box<dyn Any + Send>),
    Interrupted,
}

/// A node whose key a remote was asked for, that key, and what came into the store.
pub(super) type Answer = (NodeIndex, Digest, Option<Arc<Record>>);

/// The threads; they end when it is dropped and their jobs are done.
pub(super) struct Crew<'scope, 'env, 'a> {
    scope: &'scope Scope<'scope, 'env>,
    /// Where they say how a job goes and ends.
    messages: Sender<Message>,
    threads: usize,
    jobs: Sender<(NodeIndex, Job<'a>)>,
    waiting: Arc<Mutex<Receiver<(NodeIndex, Job<'a>)>>>,
}

impl<'scope, 'env, 'a: 'scope> Crew<'scope, 'env, 'a> {
    /// Nobody yet.
    pub fn new(scope: &'scope Scope<'scope, 'env>, messages: &Sender<Message>) -> Crew<'scope, 'env, 'a> {
        let (jobs, waiting) = mpsc::channel();
        Crew { scope, messages: messages.clone(), threads: 0, jobs, waiting: Arc::new(Mutex::new(waiting)) }
    }

    /// Executes the job of a node at once; so many have not ended, this one included.
    pub fn take(&mut self, index: NodeIndex, job: Job<'a>, running: usize) {
        if running > self.threads {
            self.threads += 1;
            let (waiting, messages) = (self.waiting.clone(), self.messages.clone());
            self.scope.spawn(move || {
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok((index, job)) = next() {
                    execute(index, job, &messages);
                }
            });
        }
        self.jobs.send((index, job)).expect("we hold the receiver");
    }
}

fn execute(index: NodeIndex, job: Job<'_>, messages: &Sender<Message>) {
    let progress = |progress| drop(messages.send(Message::Progress(index, progress)));
    let end = match catch_unwind(AssertUnwindSafe(|| job.run(&progress))) {
        Ok(result) => Message::Finished(index, Box::new(result)),
        Err(panic) => Message::Panicked(panic),
    };
    drop(messages.send(end));
}
