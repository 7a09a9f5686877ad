//! Hands jobs to Slurm by its own programs: `sbatch`, `squeue`, `scancel`. Nobody else knows its words.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use super::queue::{Ending, Jobs, Need, Packing, Queue, Seen, Standing};
use crate::error::{Error, Result};
use crate::shell;

/// `[executor.slurm]`: how nodes become jobs, and what the jobs ask for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlurmSettings {
    /// So many nodes in a job. Without it, as many as about take `seconds_per_job`.
    nodes_per_job: Option<NonZeroUsize>,
    /// About how long a job takes. Nodes of which nobody knows how long they take have a job each.
    seconds_per_job: f64,
    /// So many nodes of a job compute at the same time, on one card where they need one, with an equal part of its processors.
    nodes_at_once: NonZeroUsize,
    /// So many jobs wait or run at the same time at most.
    jobs: NonZeroUsize,
    /// How often a node is submitted again whose job was lost, preempted, out of time or out of memory.
    retries: u32,
    /// What every job asks for.
    job: Demand,
    /// What jobs with nodes of a stage ask for instead, by the name of the stage.
    stage: BTreeMap<String, Demand>,
}

impl Default for SlurmSettings {
    fn default() -> SlurmSettings {
        let (job, stage) = Default::default();
        let jobs = NonZeroUsize::new(500).expect("it is not 0");
        SlurmSettings {
            nodes_per_job: None,
            seconds_per_job: 300.0,
            nodes_at_once: NonZeroUsize::MIN,
            jobs,
            retries: 2,
            job,
            stage,
        }
    }
}

/// What a job asks for, in the words of `sbatch`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Demand {
    /// `--partition`
    partition: Option<String>,
    /// `--account`
    account: Option<String>,
    /// `--time`, e.g. `4:00:00`
    time: Option<String>,
    /// `--mem`, e.g. `16G`. A job that ran out of memory gets twice as much the next time.
    memory: Option<String>,
    /// `--cpus-per-task`
    cpus: Option<NonZeroUsize>,
    /// `--gres` of nodes that compute on a device: `gpu:1` where nothing is set, none where it is empty.
    gres: Option<String>,
    /// Further words for `sbatch`, e.g. `["--qos=long"]`; those of a stage come after those of every job.
    flags: Vec<String>,
}

impl Demand {
    /// The same where it says something, else what `below` says.
    fn over(&self, below: &Demand) -> Demand {
        let text = |own: &Option<String>, below: &Option<String>| own.as_ref().or(below.as_ref()).cloned();
        Demand {
            partition: text(&self.partition, &below.partition),
            account: text(&self.account, &below.account),
            time: text(&self.time, &below.time),
            memory: text(&self.memory, &below.memory),
            cpus: self.cpus.or(below.cpus),
            gres: text(&self.gres, &below.gres),
            flags: [&*below.flags, &*self.flags].concat(),
        }
    }
}

/// The cluster that this computer belongs to.
#[derive(Debug)]
pub(super) struct Slurm(pub SlurmSettings);

const NO_CLUSTER: &str =
    "this computer belongs to no Slurm cluster: `--executor here` runs all nodes where the command runs";

/// What every array may have at the least that a site allows.
const LONGEST_ARRAY: usize = 1000;

impl Queue for Slurm {
    fn word(&self) -> &'static str {
        "slurm"
    }

    fn name(&self) -> &'static str {
        "Slurm"
    }

    fn check(&self) -> Result<()> {
        let printed = printed(command("sbatch").arg("--version"));
        printed.map(drop).map_err(|error| error.with_hint(|| NO_CLUSTER.to_owned()))
    }

    fn options(&self, need: &Need<'_>) -> Vec<String> {
        let own = self.0.stage.get(need.stage);
        let demand = own.map_or_else(|| self.0.job.clone(), |own| own.over(&self.0.job));
        let gres = demand.gres.unwrap_or_else(|| "gpu:1".to_owned());
        let gres = Some(gres).filter(|gres| need.device && !gres.is_empty());
        let memory = demand.memory.map(|memory| grown(&memory, need.short_of_memory));
        let cpus = demand.cpus.map(|cpus| cpus.to_string());
        let named = [
            ("partition", demand.partition),
            ("account", demand.account),
            ("time", demand.time),
            ("mem", memory),
            ("cpus-per-task", cpus),
            ("gres", gres),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
        named.chain(demand.flags).collect()
    }

    fn packing(&self) -> Packing {
        let SlurmSettings { nodes_per_job, seconds_per_job, nodes_at_once, jobs, retries, .. } = &self.0;
        Packing {
            nodes: nodes_per_job.map(NonZeroUsize::get),
            seconds: *seconds_per_job,
            at_once: nodes_at_once.get(),
            jobs: jobs.get(),
            together: LONGEST_ARRAY,
            retries: *retries,
        }
    }

    fn submit(&self, jobs: &Jobs<'_>) -> Result<String> {
        let program = std::env::current_exe().map_err(Error::io("find", "the running program"))?;
        let (script, folder) = (jobs.folder.join("job.sh"), jobs.folder.display());
        let text = format!(
            "#!/bin/sh\nexec {} work --threads \"${{SLURM_CPUS_ON_NODE:-1}}\" {}/\"$SLURM_ARRAY_TASK_ID\".json\n",
            shell::word(&program.to_string_lossy()),
            shell::word(&folder.to_string())
        );
        std::fs::write(&script, text).map_err(Error::io("write", &script))?;
        let mut command = command("sbatch");
        command.args(["--parsable", "--open-mode=append"]).args([
            format!("--job-name={}", jobs.name),
            format!("--array=0-{}", jobs.count - 1),
            format!("--output={}/%a.log", folder.to_string().replace('%', "%%")),
        ]);
        let printed = printed(command.args(jobs.options).arg(&script)).map_err(|error| {
            let hint = "`[executor.slurm.job]` and `[executor.slurm.stage.NAME]` of the settings say what jobs ask for";
            error.with_hint(|| hint.to_owned())
        })?;
        // The name of a cluster may follow.
        Ok(printed.trim().split(';').next().unwrap_or_default().to_owned())
    }

    fn look(&self) -> Result<Vec<Seen>> {
        let user = rustix::process::geteuid().as_raw().to_string();
        let mut command = command("squeue");
        command.args(["--noheader", "--array", "--states=all", "--format=%F|%K|%T|%j", &format!("--user={user}")]);
        Ok(printed(&mut command)?.lines().filter_map(seen).collect())
    }

    fn cancel(&self, jobs: &[String]) -> Result<()> {
        printed(command("scancel").args(jobs)).map(drop)
    }

    fn how_to_cancel(&self, jobs: &[String]) -> String {
        format!("scancel {}", jobs.join(" "))
    }

    fn advice(&self, ending: Ending, stage: &str) -> Option<String> {
        let setting = |what: &str| format!("set `{what}` in `[executor.slurm.stage.{stage}]` of the settings");
        match ending {
            Ending::TimedOut => Some(format!("{}; the same command goes on, training included", setting("time"))),
            Ending::OutOfMemory => Some(setting("memory")),
            Ending::Cancelled | Ending::Preempted | Ending::Crashed | Ending::Unknown => {
                Some("the same command submits it again".to_owned())
            }
            Ending::Done | Ending::Failed => None,
        }
    }
}

/// What is known of Slurm on this computer.
#[derive(Debug)]
pub enum SlurmHere {
    /// There are no programs of it.
    Absent,
    /// Its programs know no cluster.
    NotSetUp(Error),
    /// The cluster does not answer.
    Silent {
        /// Of Slurm.
        version: String,
        /// What is wrong.
        error: Error,
    },
    /// It takes jobs.
    Ready {
        /// Of Slurm.
        version: String,
        /// Each with its state, nodes and cards.
        partitions: Vec<String>,
    },
}

impl SlurmHere {
    /// Asks its programs.
    pub fn ask() -> SlurmHere {
        let version = match command("sbatch").arg("--version").output() {
            Err(error) if error.kind() == ErrorKind::NotFound => return SlurmHere::Absent,
            output => match said("sbatch", output) {
                Ok(version) => version.trim().to_owned(),
                Err(error) => return SlurmHere::NotSetUp(error),
            },
        };
        match printed(command("sinfo").args(["--noheader", "--format=%P %a %D %T %G"])) {
            Ok(lines) => {
                SlurmHere::Ready { version, partitions: lines.lines().map(|line| line.trim().to_owned()).collect() }
            }
            Err(error) => SlurmHere::Silent { version, error },
        }
    }
}

/// One of Slurm's programs. What a job has in its environment is not for jobs that it submits, nor is what a user likes to see.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if (text.starts_with("SLURM_") && text != "SLURM_CONF") || text.starts_with("SQUEUE_") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What a program prints that succeeds.
fn printed(command: &mut Command) -> Result<String> {
    let output = command.output();
    said(&command.get_program().to_string_lossy(), output)
}

/// What a program has printed, if it succeeded.
fn said(program: &str, output: std::io::Result<Output>) -> Result<String> {
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::hinted(format!("there is no program `{program}`"), NO_CLUSTER),
        _ => Error::io("start", program)(error),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().rev().find(|line| !line.trim().is_empty());
    Err(Error::invalid(format!("`{program}` failed: {}", last.unwrap_or("it does not say why").trim())))
}

/// A line of `squeue`: the number of an array, the place in it, the state, the name. Other jobs than those of arrays are not
/// ours.
fn seen(line: &str) -> Option<Seen> {
    let [array, place, state, name] = line.splitn(4, '|').collect::<Vec<_>>().try_into().ok()?;
    let standing = match state {
        "COMPLETED" => Standing::Ended(Ending::Done),
        "FAILED" | "SPECIAL_EXIT" => Standing::Ended(Ending::Failed),
        "TIMEOUT" | "DEADLINE" => Standing::Ended(Ending::TimedOut),
        "OUT_OF_MEMORY" => Standing::Ended(Ending::OutOfMemory),
        "PREEMPTED" => Standing::Ended(Ending::Preempted),
        "CANCELLED" | "REVOKED" => Standing::Ended(Ending::Cancelled),
        "NODE_FAIL" | "BOOT_FAIL" => Standing::Ended(Ending::Crashed),
        "RUNNING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "STAGE_OUT" | "RESIZING" => {
            Standing::Running
        }
        _ => Standing::Queued,
    };
    Some(Seen { name: name.to_owned(), number: place.parse().ok()?, id: format!("{array}_{place}"), standing })
}

/// An amount of memory, e.g. `16G`, doubled so often; as it is, where it is no number with a unit.
fn grown(memory: &str, times: u32) -> String {
    let digits = memory.len() - memory.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match memory[..digits].parse::<u64>() {
        Ok(number) => format!("{}{}", number.saturating_mul(1 << times.min(10)), &memory[digits..]),
        Err(_) => memory.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slurm() -> Slurm {
        let settings = r#"{
            "job": {"partition": "gpu", "memory": "4G", "flags": ["--nice"]},
            "stage": {"train": {"time": "1:00:00", "flags": ["--qos=long"]}, "eval": {"gres": "", "memory": "most"}}
        }"#;
        Slurm(serde_json::from_str(settings).unwrap())
    }

    #[test]
    fn a_stage_asks_over_what_every_job_asks_for() {
        let options = |stage, device, short_of_memory| slurm().options(&Need { stage, device, short_of_memory });
        assert_eq!(
            options("train", true, 0),
            ["--partition=gpu", "--time=1:00:00", "--mem=4G", "--gres=gpu:1", "--nice", "--qos=long"]
        );
        assert_eq!(options("features", false, 0), ["--partition=gpu", "--mem=4G", "--nice"]);
        assert_eq!(options("features", false, 2), ["--partition=gpu", "--mem=16G", "--nice"]);
        assert_eq!(options("eval", true, 1), ["--partition=gpu", "--mem=most", "--nice"]);
    }

    #[test]
    fn lines_of_squeue_are_read() {
        let is = |line: &str, number, id: &str, standing| {
            assert_eq!(seen(line).unwrap(), Seen { name: "maple|1".into(), number, id: id.into(), standing });
        };
        is("17|0|PENDING|maple|1", 0, "17_0", Standing::Queued);
        is("17|12|RUNNING|maple|1", 12, "17_12", Standing::Running);
        is("17|3|OUT_OF_MEMORY|maple|1", 3, "17_3", Standing::Ended(Ending::OutOfMemory));
        assert_eq!((seen("17|N/A|RUNNING|a job of the user's"), seen("slurm_load_jobs error")), (None, None));
    }
}
