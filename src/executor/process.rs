//! The processes of running nodes: started in groups of their own, so that Ctrl-C reaches the run alone; asked to stop,
//! killed, and never outliving the run.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process_group, waitid};

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
                None => Reaper::start()?,
            };
            alive.reaper.insert(reaper).child.id()
        };
        let child = start(command.env(REAPER, reaper.to_string()))?;
        if let Some(reaper) = &mut self.lock().reaper {
            reaper.tell('+', child.id());
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
            reaper.tell('-', id);
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

/// A process that kills the programs which outlive us, even when we are killed ourselves.
#[derive(Debug)]
struct Reaper {
    child: Child,
}

impl Reaper {
    fn start() -> std::io::Result<Reaper> {
        let mut command = Command::new(std::env::current_exe()?);
        // A run may be the program of another, whose reaper must leave this one its work.
        command.arg("reap").env_remove(REAPER).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Reaper { child: start(&mut command)? })
    }

    fn tell(&mut self, sign: char, id: u32) {
        if let Some(stdin) = &mut self.child.stdin {
            let _ = writeln!(stdin, "{sign}{id}");
        }
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

/// What the reaper does: learns from `lines` which process groups live, and kills those that do when the lines end without
/// a word.
pub fn reap(lines: impl BufRead) {
    let mut groups = std::collections::BTreeSet::new();
    for line in lines.lines().map_while(Result::ok) {
        if line == DONE {
            return;
        }
        let (sign, id) = line.split_at(1.min(line.len()));
        match (sign, id.parse::<u32>()) {
            ("+", Ok(id)) => drop(groups.insert(id)),
            ("-", Ok(id)) => drop(groups.remove(&id)),
            _ => {}
        }
    }
    groups.extend(unannounced());
    groups.into_iter().for_each(|id| signal(id, Signal::KILL));
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
