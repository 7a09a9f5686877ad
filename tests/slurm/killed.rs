//! Runs and controllers that are killed or stopped while jobs go on.

use std::fs;

use snapbox::str;

use crate::support::names;
use crate::{JOBS, Project, eventually};

/// Two nodes that wait for the file `go`, and one behind them. Each says that it has begun, and that it is through.
fn waiting() -> Project {
    let project = Project::new("", "");
    let jobs = r#"
results = ["@sum"]
[axes]
number = [1, 2]
[stage.part]
kind = "command"
axes = ["number"]
run = '''
echo begun >> PLACE/begun
while ! [ -e PLACE/go ]; do sleep 0.05; done
echo {number} > part; echo through >> PLACE/through
'''
outputs = { part = "part" }
[stage.sum]
kind = "command"
inputs = { parts = ["@part"] }
run = "cat inputs/parts/*/* > sum"
outputs = { sum = "sum" }
"#;
    project.project.write(JOBS, &jobs.replace("PLACE", &project.project.path().display().to_string()));
    project
}

#[track_caller]
fn has_run_once(project: &Project) {
    assert_eq!((project.count("begun"), project.count("through")), (2, 2));
    assert_eq!(project.project.read("results/jobs/sum"), "1\n2\n");
    project.has_forgotten_its_jobs();
    assert!(project.project.is_clean());
}

pub fn a_killed_run_is_picked_up() {
    let project = waiting();
    let first = project.start("first", &["run", JOBS]);
    eventually("both nodes run", || project.count("begun") == 2);
    first.signal("KILL");
    assert_eq!(first.end().code, None);
    let second = project.start("second", &["run", JOBS]);
    second.says("SUBMITTED part/number2 before");
    project.project.write("go", "");
    second.end().is(str![[r#"
<stderr>
   SUBMITTED part/number1 before   Slurm job [JOB]_0
   SUBMITTED part/number2 before   Slurm job [JOB]_1
        DONE [TIME] ([PLACE]/3) part/number1
        DONE [TIME] ([PLACE]/3) part/number2
   SUBMITTED sum   Slurm job [JOB]
        DONE [TIME] ([PLACE]/3) sum
3 nodes: 3 ran, 0 cached, 0 failed in [TIME]
wrote results/jobs
<exit code 0>

"#]]);
    has_run_once(&project);
}

pub fn an_interrupted_run_leaves_its_jobs() {
    let project = waiting();
    let first = project.start("first", &["run", JOBS]);
    eventually("both nodes run", || project.count("begun") == 2);
    first.signal("INT");
    first.end().is(str![[r#"
<stderr>
   SUBMITTED 2 nodes   Slurm job [JOB], in 2 jobs
    STOPPING
3 nodes: 0 ran, 0 cached, 0 failed, 2 in jobs that go on, 1 not started in [TIME]
hint: the same command goes on from here, training included
the jobs in Slurm go on, and the same command picks them up
hint: `scancel [JOB]` ends them
<exit code 130>

"#]]);
    // The jobs end without a run, and what they did is found.
    project.project.write("go", "");
    eventually("the jobs end", || project.cluster.ask("squeue", &["--noheader"]).is_empty());
    let second = project.run(&["run", JOBS]);
    assert_eq!(second.done(), names(&["sum"]), "{}", second.stderr);
    has_run_once(&project);
}

pub fn two_runs_at_once_submit_each_node_once() {
    let project = waiting();
    let runs = ["first", "second"].map(|name| project.start(name, &["run", JOBS]));
    eventually("both nodes run", || project.count("begun") == 2);
    project.project.write("go", "");
    for run in runs {
        let printed = run.end();
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    }
    let said: String = ["first.err", "second.err"].map(|name| project.project.read(name)).concat();
    let submitted = said.lines().filter(|line| line.contains("SUBMITTED") && !line.contains(" before "));
    // `SUBMITTED 2 nodes`, or the name of one: each run may have claimed one of the parts.
    let nodes = |line: &str| line.split_whitespace().nth(1).unwrap().parse().unwrap_or(1);
    assert_eq!(submitted.map(nodes).sum::<usize>(), 3, "two parts and the sum, each once:\n{said}");
    has_run_once(&project);
}

pub fn a_controller_that_restarts_loses_nothing() {
    let project = waiting();
    let run = project.start("run", &["run", JOBS]);
    eventually("both nodes run", || project.count("begun") == 2);
    project.cluster.control("halt");
    // The jobs end while nobody answers; what is behind them cannot be handed over yet.
    project.project.write("go", "");
    run.says("SILENT");
    project.cluster.control("controller");
    let printed = run.end();
    assert_eq!(printed.done(), names(&["part/number1", "part/number2", "sum"]), "{}", printed.stderr);
    assert_eq!(fs::read_to_string(project.project.file("through")).unwrap(), "through\nthrough\n");
    assert_eq!(project.project.read("results/jobs/sum"), "1\n2\n");
}
