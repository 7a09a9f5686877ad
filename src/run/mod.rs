//! The scheduler: takes nodes through their states, runs each where it belongs, and tells what happens as events.
//!
//! ```text
//! Wanted --all needed are fresh--> Ready --record found--> Cached <--another run made it--+
//!    |                               |                                                    |
//!    |                               +--stale--> Queued --slot and claim--> Running --+--> Done
//!    |                                                                                +--> Failed
//!    |                                                                                +--> Ready, if memory did not suffice
//!    +--something needed failed or is not there--> Blocked                            +--> Queued, if interrupted
//! ```
//!
//! Where there is a queue, nodes that need a process of their own are Running from the moment that a job has been handed over
//! which computes them, and Queued again if that job ends without them.
//!
//! What a node needs is compared with its digest before the node runs. Where it is damaged, the nodes that left it go back
//! from Done or Cached to Ready, and what was Queued behind them to Wanted.
//!
//! Among the queued nodes, the one with the longest remaining path goes first. A node that another run has claimed stays
//! queued until its record is there or the claim is free.

mod assignment;
mod batch;
mod crew;
mod devices;
mod difference;
mod estimate;
mod event;
mod forecast;
mod git;
mod handed;
mod interrupt;
mod job;
mod json;
mod outbox;
mod precision;
mod recorder;
mod reporter;
mod rerun;
mod rows;
mod slots;
mod submission;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use petgraph::graph::NodeIndex;
use rayon::prelude::*;
use rustc_hash::{FxBuildHasher, FxHashMap};

pub use batch::work;
pub use devices::{DeviceChoice, Found, Warning, shares};
pub use difference::{Difference, MetricChange, ParameterChange};
pub use event::{Event, Outcome, Summary};
pub use forecast::Forecast;
pub use handed::live_jobs;
pub use interrupt::Interrupts;
pub use job::Failure;
pub use json::json;
pub use precision::warn_of_precision;
pub use recorder::Recorder;
pub use reporter::Reporter;
pub use rerun::{Made, Rerun, rerun};

use crate::data::PixelCache;
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Error, INTERRUPTED, Result};
use crate::executor::{Executors, Need as JobNeed, Queue};
use crate::files::{Claim, Claimed};
use crate::graph::{Graph, Inspector, State as Staleness, Wait};
use crate::kind::Place as Where;
use crate::remote::{Remote, Trouble};
use crate::store::{CanonicalJson, LastKeys, Output, Record, StatCache, Store};
use crate::tally::Tally;
use crate::text::nodes;
use crate::watch::{TICK, watch};
use assignment::{Assignment, Kept};
use crew::{Answer, Crew, Message};
use estimate::Estimates;
use handed::{Handed, News};
use interrupt::Listening;
use job::{End, Job};
use outbox::Outbox;
use slots::{Need, Slots};

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// Nodes at the same time.
    pub jobs: usize,
    /// Threads to share among running nodes.
    pub threads: usize,
    /// Where nodes that need libtorch compute.
    pub devices: DeviceChoice,
    /// After a failure, go on with nodes that do not need the failed one.
    pub keep_going: bool,
    /// Keep the pixels of images in the store once they are decoded.
    pub pixel_cache: bool,
    /// What was set, as a part of a folder's name; it tells people which curve is which.
    pub label: Option<String>,
    /// Takes the nodes that need a process of their own; without it, they run here.
    pub queue: Option<Arc<dyn Queue>>,
    /// Where results of others are pulled from, and results are sent to.
    pub remote: Option<Arc<Remote>>,
}

impl Options {
    /// A run here alone that ends with the first failure and keeps pixels.
    pub fn new(jobs: usize, threads: usize, devices: DeviceChoice) -> Options {
        Options { jobs, threads, devices, keep_going: false, pixel_cache: true, label: None, queue: None, remote: None }
    }
}

/// Where a node stands in this run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Wanted,
    Ready,
    Queued,
    Running,
    Done,
    Cached,
    Failed,
    Blocked,
}

/// A node that runs.
struct Started {
    at: Instant,
    /// Its device, and the memory that it is expected to use there.
    device: Option<(Device, u64)>,
}

/// Ends what a run has started, if it ends by an error of this program: its threads would wait for their processes, for as long as
/// those compute, and nobody would listen to signals.
struct Emergency<'a> {
    executors: Arc<Executors>,
    listening: Option<Listening<'a>>,
}

impl Drop for Emergency<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.executors.kill();
        }
        self.listening = None;
    }
}

/// A place in the queue: by priority, then in the graph's order.
type Place = (Reverse<u64>, NodeIndex);

/// How often a node that another run computes is looked at.
const LOOK_ELSEWHERE: Duration = Duration::from_millis(100);
/// How long a killed process may take to be gone.
const KILL_TIME: Duration = Duration::from_secs(2);

/// What a run is for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// These nodes, in order, with all that they need.
    pub nodes: &'a [NodeIndex],
    /// Outputs of theirs that are read when all has run.
    pub results: &'a [(NodeIndex, String)],
}

/// Runs what is stale of what is wanted, and what left a result that is damaged. A node that fails is counted in the summary,
/// and so is an interrupt.
pub fn run(
    graph: &Graph,
    Wanted { nodes: selection, results }: Wanted<'_>,
    store: &Store,
    pipeline: &str,
    options: &Options,
    interrupts: &Interrupts,
    report: &mut dyn FnMut(&Event<'_>),
) -> (Summary, FxHashMap<NodeIndex, Arc<Record>>) {
    let (started, before) = (Instant::now(), Tally::so_far());
    let (cache, remote, began) = (StatCache::open(store.stat_cache()), options.remote.as_deref(), SystemTime::now());
    let last_keys = store.last_keys(pipeline);
    if let Some(remote) = remote {
        sharing(remote, report, || {
            remote.prepare(&graph.digest());
            remote.pull_pixels(store);
        });
    }
    let mut scheduler = Scheduler {
        graph,
        store,
        pipeline,
        selection,
        results,
        inspector: &Inspector::new(graph, store, &cache),
        cache: &cache,
        options,
        last_keys: &last_keys,
        states: selection.iter().map(|&index| (index, State::Wanted)).collect(),
        records: FxHashMap::with_capacity_and_hasher(selection.len(), FxBuildHasher),
        ready: Vec::new(),
        queue: BTreeSet::new(),
        stale: HashMap::new(),
        elsewhere: BTreeSet::new(),
        unasked: BTreeSet::new(),
        asked: BTreeSet::new(),
        remade: HashSet::new(),
        working: HashMap::new(),
        alone: HashSet::new(),
        running: HashMap::new(),
        left: BTreeMap::new(),
        made: Vec::new(),
        estimates: None,
        slots: None,
        executors: Arc::default(),
        handed: None,
        summary: Summary { nodes: selection.len(), ..Summary::default() },
    };
    for &index in selection {
        *scheduler.left.entry(&graph.node(index).stage_name).or_insert(0) += 1;
    }
    store.remove_dead();
    scheduler.run(interrupts, report);
    if let Some(handed) = scheduler.handed.take() {
        (scheduler.summary.jobs_left, scheduler.summary.in_jobs) = (handed.ids(), handed.nodes());
        handed.close();
    }
    let Scheduler { mut summary, records, .. } = scheduler;
    // What cannot be kept costs the next run some reading.
    let _ = store.keep_digests(&cache);
    let _ = store.keep_records(pipeline, &records.values().map(Arc::as_ref).collect::<Vec<_>>());
    let name = |index: NodeIndex| &graph.node(index).name;
    let changed = selection.par_iter().filter_map(|&index| {
        let key = records.get(&index)?.key;
        (last_keys.get(name(index)) != Some(&key)).then(|| (name(index).clone(), key))
    });
    let changed: Vec<(String, Digest)> = changed.collect();
    if !changed.is_empty() {
        let mut last_keys = LastKeys::clone(&last_keys);
        last_keys.extend(changed);
        // Nor is what `explain` compares with worth the run, where the store cannot be written.
        let _ = store.remember_keys(pipeline, &last_keys);
    }
    if let Some(remote) = &options.remote {
        if !summary.interrupted {
            let nodes =
                records.iter().map(|(&index, record)| (graph.node(index).name.clone(), (**record).clone())).collect();
            sending(remote, interrupts, report, || remote.send_all(store, &graph.digest(), &nodes, began));
        }
        tell_trouble(remote, report);
        summary.remote = Some(remote.traffic());
    }
    summary.seconds = started.elapsed().as_secs_f64();
    // What this process itself read and decoded.
    summary.tally += Tally::so_far() - before;
    report(&Event::Finished(&summary));
    (summary, records)
}

/// The event that says what the scheduler waits for.
fn waiting(wait: &Wait) -> Event<'_> {
    match wait {
        Wait::Hashing { read, of } => Event::Hashing { read: *read, of: *of },
        Wait::Sharing(traffic) => Event::Sharing(traffic),
    }
}

/// Does some work with a remote, and says now and then how far it is, if that takes long.
fn sharing<T: Send>(remote: &Remote, report: &mut dyn FnMut(&Event<'_>), work: impl FnOnce() -> T + Send) -> T {
    watch(TICK, &mut || report(&Event::Sharing(&remote.traffic())), work)
}

/// The same, where the rest of the run waits for it. An interrupt ends the work, the next one the program.
fn sending<T: Send>(
    remote: &Arc<Remote>,
    interrupts: &Interrupts,
    report: &mut dyn FnMut(&Event<'_>),
    work: impl FnOnce() -> T + Send,
) -> T {
    let stopped = remote.clone();
    let _listening = interrupts.listen(move || {
        if stopped.stop() {
            std::process::exit(INTERRUPTED.into());
        }
    });
    sharing(remote, report, work)
}

/// A node, its key, and its outputs.
type Question<'a> = (NodeIndex, Digest, &'a [Output]);

/// Brings what a remote has of these into the store.
fn ask(remote: &Remote, store: &Store, questions: Vec<Question<'_>>) -> Vec<Answer> {
    let wanted: Vec<(Digest, &[Output])> = questions.iter().map(|&(_, key, outputs)| (key, outputs)).collect();
    let found = remote.pull(store, &wanted);
    questions.into_iter().zip(found).map(|((index, key, _), record)| (index, key, record.map(Arc::new))).collect()
}

/// Says what is amiss with a remote, the first time.
fn tell_trouble(remote: &Remote, report: &mut dyn FnMut(&Event<'_>)) {
    if let Some(Trouble { message, hint }) = remote.trouble() {
        report(&Event::Warning(&Warning { message, hint }));
    }
}

struct Scheduler<'a> {
    graph: &'a Graph,
    store: &'a Store,
    pipeline: &'a str,
    selection: &'a [NodeIndex],
    /// Outputs that are read when all has run.
    results: &'a [(NodeIndex, String)],
    inspector: &'a Inspector<'a>,
    cache: &'a StatCache,
    options: &'a Options,
    /// The keys of the last time, by node name.
    last_keys: &'a LastKeys,
    states: FxHashMap<NodeIndex, State>,
    records: FxHashMap<NodeIndex, Arc<Record>>,
    /// Nodes in state Ready.
    ready: Vec<NodeIndex>,
    /// Nodes in state Queued that nobody else computes, most urgent first.
    queue: BTreeSet<Place>,
    /// Of nodes in state Queued.
    stale: HashMap<NodeIndex, (Digest, CanonicalJson)>,
    /// Nodes in state Queued that another run computes.
    elsewhere: BTreeSet<NodeIndex>,
    /// Nodes in state Queued for which the remote is to be asked, and for which it is being asked.
    unasked: BTreeSet<NodeIndex>,
    asked: BTreeSet<NodeIndex>,
    /// Nodes that were made ready again, because what they had left is damaged.
    remade: HashSet<NodeIndex>,
    /// Keys that are queued or running, with the other nodes that wait for the same key.
    working: HashMap<Digest, Vec<NodeIndex>>,
    /// Nodes that get a device for themselves, because its memory did not suffice for them beside others.
    alone: HashSet<NodeIndex>,
    /// Nodes in state Running.
    running: HashMap<NodeIndex, Started>,
    /// Nodes that have not ended, by stage.
    left: BTreeMap<&'a str, usize>,
    /// What ran, and goes to the remote.
    made: Vec<Arc<Record>>,
    /// Made when the first node must run.
    estimates: Option<Estimates>,
    /// Made when the first node is about to run.
    slots: Option<Slots>,
    executors: Arc<Executors>,
    /// Made when the first node must run, where there is a queue.
    handed: Option<Handed<'a>>,
    summary: Summary,
}

impl<'a> Scheduler<'a> {
    fn run(&mut self, interrupts: &Interrupts, report: &mut dyn FnMut(&Event<'_>)) {
        for &index in self.selection {
            if self.graph.node(index).lacks_something() {
                self.block(index, report);
            }
        }
        for &index in self.selection {
            self.make_ready(index);
        }
        self.inspect(report);
        while let Some((remote, questions)) = self.questions() {
            let answers = sharing(remote, report, || ask(remote, self.store, questions));
            self.answer(answers, report);
            self.inspect(report);
        }
        if self.queue.is_empty() {
            return;
        }
        match &self.options.queue {
            Some(queue) => self.handed = Some(Handed::open(queue.as_ref(), self.store)),
            None => self.find_devices(report),
        }
        let (sender, receiver) = mpsc::channel();
        let (interrupt, remote) = (sender.clone(), self.options.remote.clone());
        let listening = Some(interrupts.listen(move || {
            // Who waits for the remote waits no longer.
            remote.iter().for_each(|remote| _ = remote.stop());
            drop(interrupt.send(Message::Interrupted));
        }));
        std::thread::scope(|scope| {
            // Before the threads are waited for.
            let _emergency = Emergency { executors: self.executors.clone(), listening };
            let mut crew = Crew::new(scope, &sender);
            let remote = self.options.remote.as_ref();
            let outbox = remote.map(|remote| (remote, Outbox::new(scope, remote, self.store)));
            loop {
                self.attend_queue(report);
                for record in self.made.drain(..) {
                    outbox.iter().for_each(|(_, outbox)| outbox.add(record.clone()));
                }
                self.start(&mut crew, report);
                // Nodes run meanwhile; those that become stale meanwhile are the next question.
                if let Some((remote, questions)) = self.questions() {
                    let (sender, store) = (sender.clone(), self.store);
                    scope.spawn(move || {
                        let ask = AssertUnwindSafe(|| ask(remote, store, questions));
                        drop(sender.send(catch_unwind(ask).map_or_else(Message::Panicked, Message::Answered)));
                    });
                }
                let is_handed =
                    !self.summary.interrupted && self.handed.as_ref().is_some_and(|handed| handed.nodes() > 0);
                let is_waiting = !self.elsewhere.is_empty()
                    || !self.asked.is_empty()
                    || self.handed.is_some() && !self.queue.is_empty();
                if self.running.is_empty() && !is_handed && (self.is_stopping() || !is_waiting) {
                    if let Some((remote, outbox)) = outbox {
                        sending(remote, interrupts, report, || outbox.empty());
                    }
                    return;
                }
                let message = if self.elsewhere.is_empty() && self.handed.is_none() {
                    receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
                } else {
                    receiver.recv_timeout(LOOK_ELSEWHERE)
                };
                match message {
                    Ok(Message::Progress(index, progress)) => {
                        report(&Event::Progress { node: self.name(index), progress: &progress });
                    }
                    Ok(Message::Finished(index, result)) => self.finish(index, *result, report),
                    Ok(Message::Answered(answers)) => self.answer(answers, report),
                    Ok(Message::Panicked(panic)) => resume_unwind(panic),
                    Ok(Message::Interrupted) => self.interrupt(&receiver, report),
                    Err(RecvTimeoutError::Timeout) => self.look_elsewhere(report),
                    Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
                }
            }
        });
    }

    /// Finds the devices, if a node may need one.
    fn find_devices(&mut self, report: &mut dyn FnMut(&Event<'_>)) {
        let unfinished =
            |index: &&NodeIndex| !matches!(self.states[*index], State::Cached | State::Failed | State::Blocked);
        let unfinished: Vec<NodeIndex> = self.selection.iter().filter(unfinished).copied().collect();
        if unfinished.iter().any(|&index| self.graph.node(index).work.needs_device()) {
            let found = self.options.devices.ready();
            report(&Event::Devices { devices: &found.devices, warning: found.warning.as_ref() });
            if let Some(warning) = warn_of_precision(self.graph, &unfinished, &self.options.devices) {
                report(&Event::Warning(&warning));
            }
            self.slots = Some(Slots::new(&found.devices, |device| found.memory(device)));
        }
    }

    /// No node is started any more.
    fn is_stopping(&self) -> bool {
        self.summary.interrupted || self.summary.failed > 0 && !self.options.keep_going
    }

    /// Starts nodes while there is room for them.
    fn start<'s>(&mut self, crew: &mut Crew<'s, '_, 'a>, report: &mut dyn FnMut(&Event<'_>))
    where
        'a: 's,
    {
        while !self.is_stopping() && self.running.len() < self.options.jobs {
            let Some((index, job)) = self.next_job(report) else { break };
            report(&Event::Started { node: self.name(index), device: job.device, job: None });
            crew.take(index, job, self.running.len());
        }
    }

    /// Whether a node becomes part of a job.
    fn is_for_queue(&self, index: NodeIndex) -> bool {
        self.handed.is_some() && !matches!(self.graph.node(index).work.place(), Where::Here(_))
    }

    /// Takes note of what jobs have done, and hands over more.
    fn attend_queue(&mut self, report: &mut dyn FnMut(&Event<'_>)) {
        let Some(handed) = &mut self.handed else { return };
        let (store, graph) = (self.store, self.graph);
        let record = |index: NodeIndex, key: &Digest| store.valid_record(key, graph.node(index).work.outputs());
        let all = handed.watch(&record);
        if let Some(error) = handed.silence.take() {
            report(&Event::Silent { queue: handed.queue.name(), error: &error });
        }
        for (index, news) in all {
            self.hear(index, news, report);
        }
        self.inspect(report);
        if !self.is_stopping() {
            self.hand_over(report);
        }
    }

    /// What has become of a node in its job.
    fn hear(&mut self, index: NodeIndex, news: News, report: &mut dyn FnMut(&Event<'_>)) {
        let node = self.name(index);
        match news {
            News::Started { job, device } => report(&Event::Started { node, device, job: Some(&job) }),
            News::Progress(progress) => report(&Event::Progress { node, progress: &progress }),
            News::Done(record, tally) => {
                self.summary.tally += tally;
                let (graph, seconds) = (self.graph, record.seconds);
                self.estimates().learn(graph, index, &record);
                self.made.push(record.clone());
                self.settle_all(index, State::Done, record, Some(seconds), report);
            }
            News::Elsewhere(key, recipe, owner) => {
                self.states.insert(index, State::Queued);
                self.stale.insert(index, (key, recipe));
                self.elsewhere.insert(index);
                report(&Event::Elsewhere { node, owner: &owner });
            }
            News::Again(key, recipe, message) => {
                report(&Event::Again { node, message: &message });
                self.states.insert(index, State::Queued);
                self.stale.insert(index, (key, recipe));
                self.queue_up(index);
            }
            News::Failed(failure) => {
                let waiting = failure.key.and_then(|key| self.working.remove(&key)).unwrap_or_default();
                self.fail(index, &failure, Some(failure.seconds), report);
                for failed in waiting {
                    self.fail(failed, &failure, None, report);
                }
            }
        }
    }

    /// Queued -> Running, for the nodes that become part of a job.
    fn hand_over(&mut self, report: &mut dyn FnMut(&Event<'_>)) {
        let places: Vec<Place> = self.queue.iter().copied().filter(|&(_, index)| self.is_for_queue(index)).collect();
        let Some(handed) = &mut self.handed else { return };
        let packing = handed.queue.packing();
        if places.is_empty() || handed.jobs() >= packing.jobs || !handed.answers() {
            return;
        }
        let mut claims = Vec::new();
        for (_, index) in places {
            claims.extend(self.claim_for_queue(index, report).map(|claim| (index, claim)));
        }
        // From the claims on, nobody else hands over a job for these nodes; what was handed over before shows now.
        self.handed.as_mut().expect("there is a queue").find_new();
        let mut claimed = Vec::new();
        for (index, claim) in claims {
            claimed.extend(self.assign_for_queue(index, report).map(|assignment| (index, claim, assignment)));
        }
        // Damage that was found meanwhile may have taken some back.
        claimed.retain(|(index, ..)| self.states[index] == State::Queued);
        let mut alike: BTreeMap<Vec<String>, Vec<(NodeIndex, Claim, Assignment)>> = BTreeMap::new();
        for one in claimed {
            let (node, handed) = (self.graph.node(one.0), self.handed.as_ref().expect("just used"));
            let short_of_memory = handed.short_of_memory(one.0);
            let need = JobNeed { stage: &node.stage_name, device: node.work.needs_device(), short_of_memory };
            alike.entry(handed.queue.options(&need)).or_default().push(one);
        }
        for (options, nodes) in alike {
            let mut batches = self.packed(nodes).into_iter().peekable();
            while batches.peek().is_some() {
                let room = packing.jobs.saturating_sub(self.handed.as_ref().map_or(0, Handed::jobs));
                if room == 0 {
                    break;
                }
                let together: Vec<_> = batches.by_ref().take(room.min(packing.together)).collect();
                self.submit(&options, together, report);
            }
            // What finds no room now stays queued, and its claims are given back.
            for (index, ..) in batches.flatten() {
                self.queue_up(index);
            }
        }
    }

    /// Claims a queued node for a job, unless there is a job for it already.
    fn claim_for_queue(&mut self, index: NodeIndex, report: &mut dyn FnMut(&Event<'_>)) -> Option<Claim> {
        self.queue.retain(|&(_, other)| other != index);
        if self.pick_up(index, report) {
            return None;
        }
        self.claim(index, report).unwrap_or_else(|error| {
            self.give_up(index, &error, report);
            None
        })
    }

    /// What is to be done for a claimed node, unless another run has handed over a job for it just before it was claimed.
    fn assign_for_queue(&mut self, index: NodeIndex, report: &mut dyn FnMut(&Event<'_>)) -> Option<Assignment> {
        if self.states[&index] != State::Queued || self.pick_up(index, report) {
            return None;
        }
        let assigned = self.assign(index);
        assigned
            .inspect_err(|error| {
                // Where it is a need of this node that is made again, the node waits for it.
                if !self.make_again(error, report) || self.states[&index] == State::Queued {
                    self.give_up(index, error, report);
                }
            })
            .ok()
    }

    /// Lets a node wait for a job that was handed over before, if there is one.
    fn pick_up(&mut self, index: NodeIndex, report: &mut dyn FnMut(&Event<'_>)) -> bool {
        let (stage, handed) = (&self.graph.node(index).stage_name, self.handed.as_mut().expect("there is a queue"));
        let Some(job) = handed.pick_up(index, stage, &self.stale[&index]) else { return false };
        self.stale.remove(&index);
        self.states.insert(index, State::Running);
        report(&Event::Submitted { nodes: &[self.name(index)], jobs: 1, job: &job, before: true });
        true
    }

    /// Packs nodes into jobs: so many as are asked for, or as about take the time that is.
    fn packed(&mut self, nodes: Vec<(NodeIndex, Claim, Assignment)>) -> Vec<Vec<(NodeIndex, Claim, Assignment)>> {
        let packing = self.handed.as_ref().expect("there is a queue").queue.packing();
        let graph = self.graph;
        let mut batches: Vec<Vec<_>> = Vec::new();
        let mut seconds = 0.0;
        for one in nodes {
            // What takes nobody knows how long has a job for itself.
            let own = self.estimates().seconds(graph, one.0).unwrap_or(f64::INFINITY);
            let fits = |batch: &Vec<_>| match packing.nodes {
                Some(most) => batch.len() < most,
                None => seconds + own <= packing.seconds * packing.at_once as f64,
            };
            match batches.last_mut().filter(|batch| fits(batch)) {
                Some(batch) => batch.push(one),
                None => {
                    seconds = 0.0;
                    batches.push(vec![one]);
                }
            }
            seconds += own;
        }
        batches
    }

    fn submit(
        &mut self,
        options: &[String],
        batches: Vec<Vec<(NodeIndex, Claim, Assignment)>>,
        report: &mut dyn FnMut(&Event<'_>),
    ) {
        let graph = self.graph;
        let (mut claims, mut indices, jobs) = (Vec::new(), Vec::new(), batches.len());
        let mut apart = |(index, claim, assignment): (NodeIndex, Claim, Assignment)| {
            claims.push(claim);
            indices.push(index);
            (index, graph.node(index).stage_name.clone(), assignment)
        };
        let batches = batches.into_iter().map(|batch| batch.into_iter().map(&mut apart).collect()).collect();
        let handed = self.handed.as_mut().expect("there is a queue");
        match handed.submit(self.pipeline, options, batches) {
            Ok(Some(job)) => {
                for &index in &indices {
                    self.stale.remove(&index);
                    self.states.insert(index, State::Running);
                }
                let names: Vec<&str> = indices.iter().map(|&index| self.name(index)).collect();
                report(&Event::Submitted { nodes: &names, jobs, job: &job, before: false });
            }
            Ok(None) => indices.into_iter().for_each(|index| self.queue_up(index)),
            Err(error) => indices.into_iter().for_each(|index| self.give_up(index, &error, report)),
        }
    }

    /// The first interrupt asks running nodes to stop; the second kills them.
    fn interrupt(&mut self, receiver: &mpsc::Receiver<Message>, report: &mut dyn FnMut(&Event<'_>)) {
        if !std::mem::replace(&mut self.summary.interrupted, true) {
            self.executors.stop();
            report(&Event::Stopping { running: self.running.len() });
            return;
        }
        self.executors.kill();
        let end = Instant::now() + KILL_TIME;
        while !self.running.is_empty() {
            match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Message::Finished(index, result)) => self.finish(index, *result, report),
                Ok(_) => {}
                // A node without a process cannot be killed alone.
                Err(_) => {
                    report(&Event::Finished(&self.summary));
                    std::process::exit(INTERRUPTED.into())
                }
            }
        }
    }

    fn name(&self, index: NodeIndex) -> &'a str {
        &self.graph.node(index).name
    }

    /// Wanted -> Ready, when everything the node needs has a record.
    fn make_ready(&mut self, index: NodeIndex) {
        let needs_are_fresh = self.graph.needs(index).all(|needed| self.records.contains_key(&needed));
        if self.states.get(&index) == Some(&State::Wanted) && needs_are_fresh {
            self.states.insert(index, State::Ready);
            self.ready.push(index);
        }
    }

    /// Ready -> Cached or Queued, for all ready nodes and those that become ready by it.
    fn inspect(&mut self, report: &mut dyn FnMut(&Event<'_>)) {
        let mut stale = Vec::new();
        while !self.ready.is_empty() {
            let mut ready = std::mem::take(&mut self.ready);
            ready.sort();
            let Scheduler { inspector, records, .. } = &*self;
            let work = || inspector.inspect_all(&ready, &|needed| records.get(&needed).map(Arc::as_ref));
            let found = inspector.watch(&ready, &mut |wait| report(&waiting(wait)), work);
            for (index, state) in ready.into_iter().zip(found) {
                match state {
                    Ok(Staleness::Fresh(record)) => {
                        let damage = self.damaged_result(index, &record);
                        self.settle(index, State::Cached, record, None, report);
                        if let Some(error) = damage {
                            self.make_again(&error, report);
                        }
                    }
                    Ok(Staleness::Stale { key, recipe }) => stale.extend(self.enqueue(index, key, recipe)),
                    Ok(Staleness::Pending | Staleness::Blocked) => unreachable!("a ready node has all that it needs"),
                    Err(error) => self.fail(index, &Failure::new(None, &error), None, report),
                }
            }
        }
        // Behind what is fresh, whose records tell how long nodes take. It may have become Wanted since.
        stale.retain(|index| self.stale.contains_key(index));
        stale.into_iter().for_each(|index| self.queue_up(index));
    }

    /// What the remote is to be asked for now, all at once: one question at a time.
    fn questions(&mut self) -> Option<(&'a Remote, Vec<Question<'a>>)> {
        let remote = self.options.remote.as_deref()?;
        if self.is_stopping() || self.unasked.is_empty() || !self.asked.is_empty() {
            return None;
        }
        self.asked = std::mem::take(&mut self.unasked);
        let graph = self.graph;
        let question = |&index: &NodeIndex| (index, self.stale[&index].0, graph.node(index).work.outputs());
        Some((remote, self.asked.iter().map(question).collect()))
    }

    /// Nodes that the remote had are Cached; the others are ours.
    fn answer(&mut self, answers: Vec<Answer>, report: &mut dyn FnMut(&Event<'_>)) {
        for (index, key, record) in answers {
            // It may have become Wanted since.
            let is_asked = self.stale.get(&index).is_some_and(|(own, _)| *own == key) && self.asked.remove(&index);
            match record {
                _ if !is_asked => {}
                Some(record) => {
                    self.stale.remove(&index);
                    self.settle_all(index, State::Cached, record, None, report);
                }
                None => self.queue_up(index),
            }
        }
        self.options.remote.iter().for_each(|remote| tell_trouble(remote, report));
    }

    /// Ready -> Queued. Returns the node if it can be taken now: no other one works on its key, and no remote is to be asked.
    fn enqueue(&mut self, index: NodeIndex, key: Digest, recipe: CanonicalJson) -> Option<NodeIndex> {
        self.states.insert(index, State::Queued);
        if let Some(waiting) = self.working.get_mut(&key) {
            waiting.push(index);
            return None;
        }
        self.working.insert(key, Vec::new());
        self.stale.insert(index, (key, recipe));
        if self.options.remote.is_some() {
            self.unasked.insert(index);
            return None;
        }
        Some(index)
    }

    /// A queued node can be taken.
    fn queue_up(&mut self, index: NodeIndex) {
        let priority = self.estimates().priority(index);
        self.queue.insert((Reverse(priority), index));
    }

    fn estimates(&mut self) -> &mut Estimates {
        let Scheduler { graph, selection, store, last_keys, records, estimates, .. } = self;
        let last_record = |index: NodeIndex| match records.get(&index) {
            Some(record) => Some(record.clone()),
            None => store.record(last_keys.get(&graph.node(index).name)?),
        };
        estimates.get_or_insert_with(|| Estimates::new(graph, selection, &last_record))
    }

    /// Takes the most urgent queued node for which there is room and that nobody else computes.
    fn next_job(&mut self, report: &mut dyn FnMut(&Event<'_>)) -> Option<(NodeIndex, Job<'a>)> {
        loop {
            self.inspect(report);
            if self.is_stopping() {
                return None;
            }
            let (place, device) = self.room()?;
            self.queue.remove(&place);
            let (_, index) = place;
            let claim = self.claim(index, report);
            let prepare = |claim| self.prepare(index, claim, device.map(|(device, _)| device));
            let job = claim.and_then(|claim| claim.map(prepare).transpose());
            if let Ok(Some(job)) = job {
                self.states.insert(index, State::Running);
                self.running.insert(index, Started { at: Instant::now(), device });
                return Some((index, job));
            }
            self.give_back(device);
            if let Err(error) = job {
                // Where it is a need of this node that is made again, the node waits for it.
                if !self.make_again(&error, report) || self.states[&index] == State::Queued {
                    self.give_up(index, &error, report);
                }
            }
        }
    }

    /// The most urgent queued node for which there is room, and the device that it takes.
    fn room(&mut self) -> Option<(Place, Option<(Device, u64)>)> {
        let mut full = false;
        for &place in &self.queue {
            let (_, index) = place;
            if self.is_for_queue(index) {
                continue;
            }
            if !self.graph.node(index).work.needs_device() {
                return Some((place, None));
            }
            let known = |device| self.estimates.as_ref()?.memory(self.graph, index, device);
            let is_alone = self.alone.contains(&index);
            let need = |device| match known(device) {
                _ if is_alone => Need::All,
                None => Need::Unknown,
                Some(bytes) => Need::Bytes(bytes),
            };
            let slots = self.slots.as_mut().expect("the devices were looked for before the first node");
            if !full && let Some(taken) = slots.take(need) {
                return Some((place, Some(taken)));
            }
            full = slots.are_full();
        }
        None
    }

    /// Gives back what a node had.
    fn give_back(&mut self, device: Option<(Device, u64)>) {
        if let (Some((device, bytes)), Some(slots)) = (device, &mut self.slots) {
            slots.give(device, bytes);
        }
    }

    /// What is damaged of a node's outputs that are results.
    fn damaged_result(&self, index: NodeIndex, record: &Record) -> Option<Error> {
        let outputs = self.results.iter().filter(|(node, _)| *node == index).map(|(_, output)| output);
        outputs.filter_map(|output| self.store.artifact(&record.outputs[output]).err()).next()
    }

    /// Done or Cached -> Ready, for the nodes that left a damaged artifact; Ready or Queued -> Wanted, for what needs them.
    /// Whether it did so: each node is made again once, lest a broken disk keep a run for ever.
    fn make_again(&mut self, error: &Error, report: &mut dyn FnMut(&Event<'_>)) -> bool {
        let Error::Damaged { path, .. } = error else { return false };
        let left_it = |record: &Record| record.outputs.values().any(|one| self.store.artifact_path(one) == *path);
        let makers = self.records.iter().filter(|(_, record)| left_it(record)).map(|(&index, _)| index);
        let mut makers: Vec<NodeIndex> = makers.collect();
        makers.sort();
        if makers.is_empty()
            || makers.iter().any(|maker| !self.remade.insert(*maker))
            || self.store.remove_damaged(path).is_err()
        {
            return false;
        }
        for &maker in &makers {
            report(&Event::Damaged { node: self.name(maker), error });
            self.records.remove(&maker);
            match self.states.insert(maker, State::Wanted) {
                Some(State::Done) => self.summary.ran -= 1,
                _ => self.summary.cached -= 1,
            }
            *self.left.entry(&self.graph.node(maker).stage_name).or_insert(0) += 1;
            for child in self.graph.needed_by(maker).collect::<Vec<_>>() {
                if matches!(self.states.get(&child), Some(State::Ready | State::Queued)) {
                    self.states.insert(child, State::Wanted);
                }
            }
        }
        let freed = self.forget_unqueued();
        makers.into_iter().chain(freed).for_each(|index| self.make_ready(index));
        true
    }

    /// Takes what is Wanted out of the lists that it was in while it was Ready or Queued. Returns nodes that are Wanted now,
    /// because they waited for the key of such a node.
    fn forget_unqueued(&mut self) -> Vec<NodeIndex> {
        let Scheduler { states, ready, queue, elsewhere, unasked, asked, stale, working, .. } = self;
        ready.retain(|index| states[index] == State::Ready);
        for waiting in working.values_mut() {
            waiting.retain(|index| states[index] == State::Queued);
        }
        let gone = stale.extract_if(|index, _| states[index] != State::Queued);
        let freed: Vec<NodeIndex> = gone.filter_map(|(_, (key, _))| working.remove(&key)).flatten().collect();
        for &index in &freed {
            states.insert(index, State::Wanted);
        }
        queue.retain(|(_, index)| states[index] == State::Queued);
        for nodes in [elsewhere, unasked, asked] {
            nodes.retain(|index| states[index] == State::Queued);
        }
        freed
    }

    /// Claims a queued node. Without a claim it is Cached, because another run has just made it, or another run is making
    /// it.
    fn claim(&mut self, index: NodeIndex, report: &mut dyn FnMut(&Event<'_>)) -> Result<Option<Claim>> {
        let (key, _) = self.stale[&index];
        let claimed = self.store.claim(&key)?;
        // Looked at after claiming: from now on nobody else makes it.
        if let Some(record) = self.store.valid_record(&key, self.graph.node(index).work.outputs()) {
            self.stale.remove(&index);
            self.settle_all(index, State::Cached, record, None, report);
            return Ok(None);
        }
        match claimed {
            Claimed::Ours(claim) => Ok(Some(claim)),
            Claimed::Elsewhere(owner) => {
                self.elsewhere.insert(index);
                report(&Event::Elsewhere { node: self.name(index), owner: &owner });
                Ok(None)
            }
        }
    }

    /// Nodes that other runs computed are Cached once they are done there, and ours again once they were given up.
    fn look_elsewhere(&mut self, report: &mut dyn FnMut(&Event<'_>)) {
        for index in std::mem::take(&mut self.elsewhere) {
            let (key, _) = self.stale[&index];
            let state = match self.store.valid_record(&key, self.graph.node(index).work.outputs()) {
                Some(record) => {
                    self.stale.remove(&index);
                    self.settle_all(index, State::Cached, record, None, report);
                    continue;
                }
                None => self.store.claim(&key),
            };
            match state {
                Ok(Claimed::Elsewhere(_)) => drop(self.elsewhere.insert(index)),
                // It is claimed again when there is room for it.
                Ok(Claimed::Ours(_)) => self.queue_up(index),
                Err(error) => self.give_up(index, &error, report),
            }
        }
    }

    /// What is to be done for a queued node.
    fn assign(&mut self, index: NodeIndex) -> Result<Assignment> {
        let (key, recipe) = self.stale[&index].clone();
        let label = self.options.label.as_deref();
        let kept = Kept {
            partial: self.store.partial(&key),
            events: Some(self.store.events(self.pipeline, self.name(index), &key, label)),
            pixels: self.options.pixel_cache.then(|| PixelCache(self.store.pixels())),
            log: self.store.log(self.pipeline, self.name(index)),
        };
        let records = |needed| self.records.get(&needed).map(Arc::as_ref);
        Assignment::new(self.graph, index, self.inspector, &records, (key, recipe), kept)
    }

    /// Everything that a node's job needs.
    fn prepare(&mut self, index: NodeIndex, claim: Claim, device: Option<Device>) -> Result<Job<'a>> {
        let (assignment, scratch) = (self.assign(index)?, self.store.scratch()?.node()?);
        // A node that runs alone may use all processors; many nodes share them. What takes milliseconds takes no share of a node
        // that may take hours.
        let is_light = |index: NodeIndex| matches!(self.graph.node(index).work.place(), Where::Here(_));
        let shares = |other: &NodeIndex| is_light(index) || !is_light(*other);
        let others = self.running.keys().chain(self.queue.iter().map(|(_, index)| index));
        let wanted = 1 + others.filter(|other| shares(other)).take(self.options.jobs.saturating_sub(1)).count();
        self.stale.remove(&index);
        Ok(Job {
            assignment,
            work: self.graph.node(index).work.clone(),
            store: self.store,
            cache: self.cache,
            scratch,
            threads: (self.options.threads / wanted).max(1),
            device,
            executors: self.executors.clone(),
            claim: Some(claim),
        })
    }

    /// Running -> Done, Failed, Queued if it was interrupted, or Ready if it has to run again, alone on its device.
    fn finish(&mut self, index: NodeIndex, result: Result<(Record, Tally), End>, report: &mut dyn FnMut(&Event<'_>)) {
        let started = self.running.remove(&index).expect("a node that ends runs");
        let seconds = Some(started.at.elapsed().as_secs_f64());
        self.give_back(started.device);
        match result {
            Ok((record, tally)) => {
                self.summary.tally += tally;
                let graph = self.graph;
                self.estimates().learn(graph, index, &record);
                let record = Arc::new(record);
                self.made.push(record.clone());
                self.settle_all(index, State::Done, record, seconds, report);
            }
            Err(End::Crowded(failure)) if self.alone.insert(index) => {
                report(&Event::Crowded { node: self.name(index), message: &failure.message });
                let waiting = failure.key.and_then(|key| self.working.remove(&key)).unwrap_or_default();
                for one in std::iter::once(index).chain(waiting) {
                    self.states.insert(one, State::Ready);
                    self.ready.push(one);
                }
            }
            Err(End::Failed(failure) | End::Crowded(failure)) => {
                let waiting = failure.key.and_then(|key| self.working.remove(&key)).unwrap_or_default();
                self.fail(index, &failure, seconds, report);
                for failed in waiting {
                    self.fail(failed, &failure, None, report);
                }
            }
            Err(End::Stopped) => {
                self.states.insert(index, State::Queued);
                self.summary.stopped += 1;
                self.tell(index, Outcome::Stopped, seconds, report);
            }
        }
    }

    /// A queued node that could not be started.
    fn give_up(&mut self, index: NodeIndex, error: &Error, report: &mut dyn FnMut(&Event<'_>)) {
        let key = self.stale.remove(&index).map(|(key, _)| key);
        let waiting = key.and_then(|key| self.working.remove(&key)).unwrap_or_default();
        for failed in std::iter::once(index).chain(waiting) {
            self.fail(failed, &Failure::new(key, error), None, report);
        }
    }

    fn fail(&mut self, index: NodeIndex, failure: &Failure, seconds: Option<f64>, report: &mut dyn FnMut(&Event<'_>)) {
        self.states.insert(index, State::Failed);
        self.summary.failed += 1;
        self.tell(index, Outcome::Failed { failure }, seconds, report);
        self.block_needing(index, report);
    }

    /// The node has a record now, and so have those that wait for the same key.
    fn settle_all(
        &mut self,
        index: NodeIndex,
        state: State,
        record: Arc<Record>,
        seconds: Option<f64>,
        report: &mut dyn FnMut(&Event<'_>),
    ) {
        let waiting = self.working.remove(&record.key).unwrap_or_default();
        self.settle(index, state, record.clone(), seconds, report);
        for other in waiting {
            self.settle(other, State::Cached, record.clone(), None, report);
        }
    }

    /// The node has a record now: tells, and makes ready what waited for it.
    fn settle(
        &mut self,
        index: NodeIndex,
        state: State,
        record: Arc<Record>,
        seconds: Option<f64>,
        report: &mut dyn FnMut(&Event<'_>),
    ) {
        self.states.insert(index, state);
        let outcome = if state == State::Done {
            self.summary.ran += 1;
            Outcome::Done { record: &record }
        } else {
            self.summary.cached += 1;
            Outcome::Cached { record: &record }
        };
        self.tell(index, outcome, seconds, report);
        self.records.insert(index, record);
        let children: Vec<NodeIndex> = self.graph.needed_by(index).collect();
        children.into_iter().for_each(|child| self.make_ready(child));
    }

    /// Tells how a node ended.
    fn tell(
        &mut self,
        index: NodeIndex,
        outcome: Outcome<'_>,
        seconds: Option<f64>,
        report: &mut dyn FnMut(&Event<'_>),
    ) {
        self.leave(index);
        let position = self.summary.nodes - self.summary.blocked - self.summary.unreached();
        let (node, of) = (self.name(index), self.summary.nodes);
        report(&Event::Settled { node, outcome, seconds, position, of, remaining: self.remaining() });
    }

    /// One node less to come.
    fn leave(&mut self, index: NodeIndex) {
        let stage: &str = &self.graph.node(index).stage_name;
        *self.left.get_mut(stage).expect("every selected node is counted") -= 1;
    }

    /// About how many seconds the nodes to come take; nothing while a stage among them has never run.
    fn remaining(&self) -> Option<f64> {
        let estimates = self.estimates.as_ref()?;
        let left = || self.left.iter().filter(|(_, count)| **count > 0);
        let of_stage = |(stage, &count): (&&str, &usize)| Some(estimates.mean_seconds(stage)? * count as f64);
        let seconds: f64 = left().map(of_stage).sum::<Option<f64>>()?;
        let count: usize = left().map(|(_, count)| count).sum();
        Some(seconds / self.options.jobs.min(count).max(1) as f64)
    }

    /// A node that is Wanted, and everything that needs it, becomes Blocked.
    fn block(&mut self, index: NodeIndex, report: &mut dyn FnMut(&Event<'_>)) {
        if self.states.get(&index) == Some(&State::Wanted) {
            self.states.insert(index, State::Blocked);
            self.summary.blocked += 1;
            self.tell(index, Outcome::Blocked, None, report);
            self.block_needing(index, report);
        }
    }

    /// Everything that needs a failed or blocked node becomes Blocked.
    fn block_needing(&mut self, index: NodeIndex, report: &mut dyn FnMut(&Event<'_>)) {
        for child in self.graph.needed_by(index) {
            self.block(child, report);
        }
    }
}

/// The error that a run with failures, or an interrupted one, ends with.
pub fn check(summary: &Summary) -> Result<()> {
    match summary.failed {
        _ if summary.interrupted => Err(Error::Interrupted),
        0 if summary.blocked > 0 => Err(Error::Found {
            message: format!("{} did not run, because something that they need is not there", nodes(summary.blocked)),
            hint: Some("`maple-pipe status` lists what is not there, and how to get it".to_owned()),
        }),
        0 => Ok(()),
        failed => Err(Error::NodesFailed { failed }),
    }
}
