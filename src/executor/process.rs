//! The processes of running nodes: started in groups of their own, so that Ctrl-C reaches the run alone; asked to stop,
//! killed, and never outliving the run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpgid, getpid, kill_process_group, set_child_subreaper, waitid,
    waitpid,
};

use super::mps;
use crate::error::{Error, Result};
use crate::task::Request;

/// The variable by which the programs of a run are known: the process id of their reaper.
const REAPER: &str = "MAPLE_REAPER";
/// What a reaper is told when nothing is left to do.
const DONE: &str = "done";

/// The processes of a run that are alive.
#[derive(Debug, Default)]
pub(super) struct Processes(Mutex<Alive>);

#[derive(Debug, Default)]
struct Alive {
    /// How to ask each process to stop.
    members: BTreeMap<u32, Stop>,
    stopping: bool,
    killed: bool,
    /// What loses its parent becomes our child.
    adopts: bool,
    reaper: Option<Reaper>,
}

/// How a process is asked to stop.
#[derive(Debug)]
enum Stop {
    /// A worker: by a request. The pipe also stays open so that the worker notices if we die.
    Request(ChildStdin),
    /// Any other program: by SIGTERM to its group.
    Signal,
}

/// A process that has been started.
#[derive(Debug)]
pub(super) struct Process {
    pub child: Child,
    processes: Arc<Processes>,
}

impl Processes {
    /// Starts a worker, which takes requests from its standard input.
    pub fn start_worker(self: &Arc<Self>, command: &mut Command) -> Result<Process> {
        let mut child = self.start(command.stdin(Stdio::piped())).map_err(Error::io("start", "a worker"))?;
        let stdin = child.stdin.take().expect("asked for a pipe");
        Ok(self.add(child, Stop::Request(stdin)))
    }

    /// Starts any other program, without standard input.
    pub fn start_program(self: &Arc<Self>, command: &mut Command) -> std::io::Result<Process> {
        let child = self.start(command.stdin(Stdio::null()))?;
        Ok(self.add(child, Stop::Signal))
    }

    /// Starts a process. A watching one sees to it that it ends when we die: also a worker, which would notice that its
    /// standard input ends, but not while it is stopped.
    fn start(&self, command: &mut Command) -> std::io::Result<Child> {
        let reaper = {
            let mut alive = self.lock();
            let reaper = match alive.reaper.take() {
                Some(reaper) => reaper,
                None => {
                    alive.adopts = set_child_subreaper(Some(getpid())).is_ok();
                    Reaper::start()?
                }
            };
            alive.reaper.insert(reaper).child.id()
        };
        let child = start(command.env(REAPER, reaper.to_string()))?;
        if let Some(reaper) = &mut self.lock().reaper {
            reaper.groups.add(child.id());
        }
        Ok(child)
    }

    /// Asks every process to stop, and those that are started later, too.
    pub fn stop(&self) {
        let mut alive = self.lock();
        alive.stopping = true;
        for (&id, stop) in &mut alive.members {
            ask(id, stop);
        }
    }

    /// Whether nothing runs on that a program which has ended left behind, in a group of its own: it may still write to where
    /// that program ran. What nobody else waits for becomes our child when its parent ends.
    pub fn left_nothing(&self) -> bool {
        // The list of the first thread has what was adopted, and not what the threads of jobs have started and wait for.
        let id = std::process::id();
        let Ok(children) = std::fs::read_to_string(format!("/proc/self/task/{id}/children")) else { return false };
        let children: Vec<u32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        let alive = self.lock();
        if children.is_empty() || !alive.adopts {
            return alive.adopts;
        }
        let reaper = alive.reaper.as_ref().map(|reaper| reaper.child.id());
        let is_left = |id: &u32| Some(*id) != reaper && Some(*id) != mps::keeper() && !alive.members.contains_key(id);
        let is_gone = |id: u32| {
            let id = i32::try_from(id).ok().and_then(Pid::from_raw);
            matches!(waitpid(id, WaitOptions::NOHANG), Ok(Some(_)))
        };
        // All of them: what has ended is to be waited for.
        children.into_iter().filter(is_left).filter(|&id| !is_gone(id)).count() == 0
    }

    /// Whether [`Processes::stop`] was called.
    pub fn are_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Kills every process, and those that are started later, too.
    pub fn kill(&self) {
        let mut alive = self.lock();
        alive.killed = true;
        for &id in alive.members.keys() {
            signal(id, Signal::KILL);
        }
    }

    fn add(self: &Arc<Self>, child: Child, mut stop: Stop) -> Process {
        let mut alive = self.lock();
        if alive.stopping {
            ask(child.id(), &mut stop);
        }
        if alive.killed {
            signal(child.id(), Signal::KILL);
        }
        alive.members.insert(child.id(), stop);
        Process { child, processes: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Alive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Asks something of a worker.
    pub fn request(&self, request: &Request) -> std::io::Result<()> {
        match self.processes.lock().members.get_mut(&self.child.id()) {
            Some(Stop::Request(stdin)) => write(stdin, request),
            _ => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Kills the process and waits until it is gone.
    pub fn kill(self) {
        Process::kill_all(vec![self]);
    }

    /// Kills processes and waits until they are gone.
    pub fn kill_all(all: Vec<Process>) {
        all.iter().for_each(|one| signal(one.child.id(), Signal::KILL));
        all.into_iter().for_each(|one| drop(one.wait()));
    }

    /// Waits until the process has ended. Its number stays its own until nobody signals it any more: only then is the system
    /// told that the number may be another process's.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let ended = || waitid(WaitId::Pid(Pid::from_child(&self.child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let failed = Error::io("wait for", "a node's process");
        match retry_on_intr(ended) {
            Ok(_) => self.retire(),
            Err(error) => return Err(failed(error.into())),
        }
        self.child.wait().map_err(failed)
    }

    /// From now on nobody signals it.
    fn retire(&mut self) {
        let id = self.child.id();
        let mut alive = self.processes.lock();
        let Some(stop) = alive.members.remove(&id) else { return };
        if let Stop::Signal = stop {
            // What a program left running in the background ends with it.
            signal(id, Signal::KILL);
        }
        if let Some(reaper) = &mut alive.reaper {
            reaper.groups.remove(id);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.retire();
    }
}

fn start(command: &mut Command) -> std::io::Result<Child> {
    command.process_group(0).spawn()
}

fn ask(id: u32, stop: &mut Stop) {
    match stop {
        Stop::Request(stdin) => drop(write(stdin, &Request::Stop)),
        Stop::Signal => signal(id, Signal::TERM),
    }
}

fn write(stdin: &mut ChildStdin, request: &Request) -> std::io::Result<()> {
    let line = serde_json::to_string(request)?;
    stdin.write_all((line + "\n").as_bytes())
}

/// Signals a process's group; one that has ended needs none.
fn signal(id: u32, signal: Signal) {
    if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

/// A process that kills the programs which outlive us, even when we are killed ourselves. It sleeps until its standard input
/// ends, and then reads which groups live.
#[derive(Debug)]
struct Reaper {
    child: Child,
    groups: Groups,
}

impl Reaper {
    fn start() -> std::io::Result<Reaper> {
        let groups = Groups::new()?;
        let mut command = Command::new(std::env::current_exe()?);
        // A run may be the program of another, whose reaper must leave this one its work.
        command.arg("reap").env_remove(REAPER).stdin(Stdio::piped()).stderr(Stdio::null());
        let child = start(command.stdout(groups.file.try_clone()?))?;
        Ok(Reaper { child, groups })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = writeln!(stdin, "{DONE}");
        }
        let _ = self.child.wait();
    }
}

/// The process groups that live, in memory that a run shares with its reaper. To write there wakes nobody.
#[derive(Debug)]
struct Groups {
    file: File,
    /// As in the file.
    places: Vec<u32>,
}

/// What stands where there is no group.
const NOBODY: u32 = 0;

impl Groups {
    fn new() -> std::io::Result<Groups> {
        let file = memfd_create("process groups", MemfdFlags::CLOEXEC)?;
        Ok(Groups { file: file.into(), places: Vec::new() })
    }

    fn add(&mut self, id: u32) {
        let place = self.places.iter().position(|&one| one == NOBODY).unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(NOBODY);
        }
        self.set(place, id);
    }

    fn remove(&mut self, id: u32) {
        if let Some(place) = self.places.iter().position(|&one| one == id) {
            self.set(place, NOBODY);
        }
    }

    fn set(&mut self, place: usize, id: u32) {
        self.places[place] = id;
        let _ = self.file.write_all_at(&id.to_le_bytes(), (place * size_of::<u32>()) as u64);
    }

    fn read(file: &File) -> Vec<u32> {
        let mut groups = Vec::new();
        let mut id = [0; size_of::<u32>()];
        while file.read_exact_at(&mut id, (groups.len() * size_of::<u32>()) as u64).is_ok() {
            groups.push(u32::from_le_bytes(id));
        }
        groups.retain(|&id| id != NOBODY);
        groups
    }
}

/// What the reaper does: waits until `lines` end, and unless they end with a word kills the process groups that `groups` says
/// live.
pub fn reap(lines: impl BufRead, groups: &File) {
    if lines.lines().map_while(Result::ok).any(|line| line == DONE) {
        return;
    }
    Groups::read(groups).into_iter().chain(unannounced()).for_each(|id| signal(id, Signal::KILL));
}

/// The groups of programs that were started just before the run died, so that it could not say so.
fn unannounced() -> Vec<u32> {
    let mark = format!("{REAPER}={}", std::process::id());
    let is_marked = |id: &u32| {
        std::fs::read(format!("/proc/{id}/environ"))
            .is_ok_and(|environment| environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()))
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let marked = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_marked);
    let group = |id| getpgid(i32::try_from(id).ok().and_then(Pid::from_raw)).ok();
    marked.filter_map(group).filter_map(|group| group.as_raw_nonzero().get().try_into().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// What may be signalled is there, if only as what its parent has not been told of: its number cannot be another
    /// process's.
    #[test]
    fn what_may_be_signalled_keeps_its_number() {
        let (processes, ended) = (Arc::<Processes>::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let child = start(&mut Command::new("true")).unwrap();
                        assert!(processes.add(child, Stop::Signal).wait().unwrap().success());
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            while ended.load(Ordering::SeqCst) < 400 {
                for id in processes.lock().members.keys() {
                    assert!(Path::new(&format!("/proc/{id}")).exists());
                }
            }
        });
        assert!(processes.lock().members.is_empty());
    }

    #[test]
    fn groups_that_live_are_read_back() {
        let mut groups = Groups::new().unwrap();
        [11, 12, 13].into_iter().for_each(|id| groups.add(id));
        groups.remove(12);
        assert_eq!(Groups::read(&groups.file), [11, 13]);
        groups.add(14);
        groups.remove(99);
        assert_eq!(Groups::read(&groups.file), [11, 14, 13]);
        assert_eq!(groups.file.metadata().unwrap().len(), 12, "what a group leaves, the next one takes");
    }

    #[test]
    fn a_killed_process_is_gone_with_what_it_started() {
        let processes = Arc::<Processes>::default();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]).stdout(Stdio::piped());
        let mut process = processes.add(start(&mut command).unwrap(), Stop::Signal);
        let mut line = String::new();
        std::io::BufReader::new(process.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        process.kill();
        let stat = format!("/proc/{}/stat", line.trim());
        // Gone, or ended and waiting for its new parent.
        let is_alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        while is_alive() {
            std::thread::yield_now();
        }
    }
}
