//! Nodes as jobs of a real Slurm, which `cluster.sh` starts on this computer. Where there is none to start, the tests are
//! reported as ignored; with `--include-ignored` they fail there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

// The program's tests use all of it.
#[allow(dead_code)]
#[path = "../program/support.rs"]
mod support;

mod ends;
mod killed;
mod packed;
mod seen;

const ALL: &[(&str, fn())] = &[
    ("alike_nodes_are_jobs_of_one_array", packed::alike_nodes_are_jobs_of_one_array),
    ("results_are_those_of_a_run_here", packed::results_are_those_of_a_run_here),
    ("nodes_are_packed_into_jobs", packed::nodes_are_packed_into_jobs),
    ("nodes_of_a_job_compute_at_once", packed::nodes_of_a_job_compute_at_once),
    ("a_node_that_computes_on_a_device_gets_a_card", packed::a_node_that_computes_on_a_device_gets_a_card),
    ("runs_inside_a_job_work", packed::runs_inside_a_job_work),
    ("a_node_that_fails_shows_its_log", ends::a_node_that_fails_shows_its_log),
    ("a_job_that_somebody_cancels_fails_its_nodes", ends::a_job_that_somebody_cancels_fails_its_nodes),
    ("a_job_that_crashes_is_submitted_again", ends::a_job_that_crashes_is_submitted_again),
    ("what_slurm_refuses_is_said", ends::what_slurm_refuses_is_said),
    ("a_training_out_of_time_goes_on_in_the_next_job", ends::a_training_out_of_time_goes_on_in_the_next_job),
    ("a_killed_run_is_picked_up", killed::a_killed_run_is_picked_up),
    ("an_interrupted_run_leaves_its_jobs", killed::an_interrupted_run_leaves_its_jobs),
    ("two_runs_at_once_submit_each_node_once", killed::two_runs_at_once_submit_each_node_once),
    ("a_controller_that_restarts_loses_nothing", killed::a_controller_that_restarts_loses_nothing),
    ("status_and_runs_show_jobs", seen::status_and_runs_show_jobs),
    ("doctor_knows_the_cluster", seen::doctor_knows_the_cluster),
];

fn main() -> std::process::ExitCode {
    let programs = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel"];
    let is_absent = !programs.into_iter().all(is_there);
    let trial = |&(name, test): &(&str, fn())| {
        let test = move || {
            test();
            Ok(())
        };
        Trial::test(name, test).with_kind("needs Slurm and munge").with_ignored_flag(is_absent)
    };
    let mut arguments = Arguments::from_args();
    // They share the two processors of one cluster, and some restart its controller.
    arguments.test_threads = Some(1);
    let conclusion = libtest_mimic::run(&arguments, ALL.iter().map(trial).collect());
    if let Some(cluster) = CLUSTER.get() {
        cluster.control("down");
    }
    conclusion.exit_code()
}

fn is_there(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// A cluster of this computer alone.
struct Cluster {
    folder: TempDir,
}

impl Cluster {
    /// The one that all tests share, started by the first.
    fn get() -> &'static Cluster {
        CLUSTER.get_or_init(|| {
            let cluster = Cluster { folder: TempDir::new().unwrap() };
            cluster.control("up");
            cluster
        })
    }

    fn control(&self, action: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/cluster.sh");
        let status =
            Command::new("bash").arg(script).arg(action).arg(self.folder.path()).stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "cluster.sh {action}");
    }

    /// A program that knows the cluster.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("SLURM_CONF", self.configuration()).stdin(Stdio::null());
        command
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    /// What such a program prints.
    fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A project whose nodes are jobs of the cluster.
struct Project {
    project: support::Project,
    cluster: &'static Cluster,
}

/// A pipeline of commands.
const JOBS: &str = "pipelines/jobs.toml";

impl Project {
    /// With these settings below `[executor]`, and this text as the pipeline [`JOBS`].
    fn new(settings: &str, jobs: &str) -> Project {
        let project = support::Project::new();
        project.write(JOBS, jobs);
        Project::of(project, settings)
    }

    /// One that is there, with these settings below `[executor]`.
    fn of(project: support::Project, settings: &str) -> Project {
        project.write("maple-pipe.toml", &format!("[executor]\nname = \"slurm\"\n{settings}"));
        Project { project, cluster: Cluster::get() }
    }

    /// The program, where the cluster can be found.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command.env("SLURM_CONF", self.cluster.configuration());
        command
    }

    fn run(&self, arguments: &[&str]) -> support::Printed {
        self.printed(self.command(arguments).output().unwrap())
    }

    /// The one JSON value that the program prints.
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.command(arguments).output().unwrap().stdout).unwrap()
    }

    /// What was printed, with a name for what the numbers of jobs are. Which of several jobs is done first is left to chance: the
    /// lines that say so are sorted.
    fn printed(&self, output: Output) -> support::Printed {
        let [job, place] =
            [r"\b(Slurm job|scancel) \d+", r"\( *\d+/(\d+)\)"].map(|pattern| regex::Regex::new(pattern).unwrap());
        let mut printed = self.project.printed(output);
        let text = job.replace_all(&printed.stderr, "$1 [JOB]");
        let text = place.replace_all(&text, "([PLACE]/$1)");
        let is_done = |line: &str| line.trim_start().starts_with("DONE ");
        let mut lines: Vec<&str> = text.lines().collect();
        for alike in lines.chunk_by_mut(|one, next| is_done(one) && is_done(next)) {
            alike.sort_unstable();
        }
        printed.stderr = lines.into_iter().map(|line| format!("{line}\n")).collect();
        printed
    }

    /// Starts the program in the background.
    fn start(&self, name: &str, arguments: &[&str]) -> Running<'_> {
        self.spawn(name, self.command(arguments))
    }

    /// The same for a command of this project.
    fn spawn(&self, name: &str, mut command: Command) -> Running<'_> {
        let [stdout, stderr] = ["out", "err"].map(|stream| self.project.file(&format!("{name}.{stream}")));
        command.env("SLURM_CONF", self.cluster.configuration());
        command.stdout(File::create(stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        Running { project: self, child: command.spawn().unwrap(), stderr }
    }

    /// How often a node has done its work: it writes a line each time.
    fn count(&self, file: &str) -> usize {
        fs::read_to_string(self.project.file(file)).unwrap_or_default().lines().count()
    }

    /// Nothing is left of jobs.
    #[track_caller]
    fn has_forgotten_its_jobs(&self) {
        let jobs = fs::read_dir(self.project.file(".maple/jobs")).into_iter().flatten().flatten();
        let jobs: Vec<PathBuf> = jobs.map(|entry| entry.path()).collect();
        assert!(jobs.is_empty(), "{jobs:?}");
    }
}

/// The program, which goes on; its standard error is in a file.
struct Running<'a> {
    project: &'a Project,
    child: Child,
    stderr: PathBuf,
}

impl Running<'_> {
    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    }

    /// Waits until it has said so.
    #[track_caller]
    fn says(&self, text: &str) {
        eventually(text, || fs::read_to_string(&self.stderr).unwrap().contains(text));
    }

    fn end(mut self) -> support::Printed {
        let status = self.child.wait().unwrap();
        let stdout = fs::read(self.stderr.with_extension("out")).unwrap();
        self.project.printed(Output { status, stdout, stderr: fs::read(&self.stderr).unwrap() })
    }
}

#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(180), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
