//! Jobs that end otherwise than they should.

use std::fs;
use std::process::Command;

use snapbox::str;

use crate::support::{self, PIPELINE};
use crate::{JOBS, Project, eventually};

pub fn a_node_that_fails_shows_its_log() {
    let jobs = r#"
results = ["@part"]
[axes]
number = [1, 2]
[stage.part]
kind = "command"
axes = ["number"]
run = "echo so far; test {number} = 2; echo {number} > part"
outputs = { part = "part" }
"#;
    // One after another in one job.
    let project = Project::new("[executor.slurm]\nnodes_per_job = 2\n", jobs);
    project.run(&["run", JOBS, "--keep-going"]).is(str![[r#"
<stderr>
   SUBMITTED 2 nodes   Slurm job [JOB]
      FAILED [TIME] ([PLACE]/2) part/number1
error: its command ended with exit status: 1
  | so far
log: [PROJECT]/.maple/logs/jobs/part/number1.log
        DONE [TIME] ([PLACE]/2) part/number2
2 nodes: 1 ran, 0 cached, 1 failed in [TIME]
wrote results/jobs
<exit code 1>

"#]]);
}

/// A node that says that it has begun, and then never ends.
fn endless(settings: &str, command: &str) -> Project {
    let project = Project::new(settings, "");
    let place = project.project.path().display().to_string();
    let run = format!("echo begun; echo once >> {place}/begun; {command}");
    project.project.write(
        JOBS,
        &format!("[stage.wait]\nkind = \"command\"\nrun = '''\n{run}\n'''\noutputs = {{ out = \"out\" }}\n")
            .replace("PLACE", &place),
    );
    project
}

pub fn a_job_that_somebody_cancels_fails_its_nodes() {
    let project = endless("", "sleep 1000");
    let run = project.start("run", &["run", JOBS]);
    eventually("the node begins", || project.count("begun") == 1);
    project.cluster.ask("scancel", &["--user=root"]);
    run.end().is(str![[r#"
<stderr>
   SUBMITTED wait   Slurm job [JOB]
      FAILED [TIME] ([PLACE]/1) wait
error: Slurm job [JOB]_0 was cancelled
  | begun
hint: the same command submits it again
log: [PROJECT]/.maple/logs/jobs/wait.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
}

pub fn a_job_that_crashes_is_submitted_again() {
    // The job's process is the parent of the command.
    let crash = "test -e PLACE/crashed || { touch PLACE/crashed; kill -KILL $PPID; sleep 1000; }\necho done > out";
    let project = endless("[executor.slurm]\nretries = 1\n", crash);
    project.run(&["run", JOBS]).is(str![[r#"
<stderr>
   SUBMITTED wait   Slurm job [JOB]
       AGAIN wait   it is submitted again: Slurm job [JOB]_0 failed
   SUBMITTED wait   Slurm job [JOB]
        DONE [TIME] ([PLACE]/1) wait
1 node: 1 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]]);
    assert_eq!(project.count("begun"), 2);
    // Without a retry, it fails.
    let project = endless("[executor.slurm]\nretries = 0\n", crash);
    project.run(&["run", JOBS]).is(str![[r#"
<stderr>
   SUBMITTED wait   Slurm job [JOB]
      FAILED [TIME] ([PLACE]/1) wait
error: Slurm job [JOB]_0 failed
  | begun
log: [PROJECT]/.maple/logs/jobs/wait.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
}

pub fn what_slurm_refuses_is_said() {
    let project = endless("[executor.slurm.stage.wait]\npartition = \"nowhere\"\n", "sleep 1000");
    project.run(&["run", JOBS]).is(str![[r#"
<stderr>
      FAILED [TIME] ([PLACE]/1) wait
error: `sbatch` failed: sbatch: error: Batch job submission failed: Invalid partition name specified
hint: `[executor.slurm.job]` and `[executor.slurm.stage.NAME]` of the settings say what jobs ask for
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
}

pub fn a_training_out_of_time_goes_on_in_the_next_job() {
    const NODE: &str = "train/shapes/coop/seed1";
    const ENOUGH: u64 = 100;
    let long = ["run", PIPELINE, "--only", NODE, "--set", "stage.train.method.training.epochs=1000", "--json"];
    let whole = support::Project::after_a_run();
    whole.ran(&long[..long.len() - 1]);

    // The time that Slurm gives is over for sure: the first worker is stopped in the middle.
    let settings = "[executor.slurm.job]\ngres = \"\"\n[executor.slurm.stage.train]\ntime = \"1\"\n";
    let project = Project::of(support::Project::after_a_run(), settings);
    let worker = project.project.file("worker");
    let script = format!("echo $$ > {}; exec \"$real\" \"$@\"", worker.display());
    let run = project.spawn("run", project.project.command_with_worker(&script, &long));
    let epochs = |text: &str| -> Vec<u64> {
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_default());
        lines.filter_map(|line| line["epoch"].as_u64()).collect()
    };
    let said = || fs::read_to_string(project.project.file("run.out")).unwrap();
    eventually("the training is on its way", || epochs(&said()).last().is_some_and(|epoch| *epoch >= ENOUGH));
    let id = fs::read_to_string(worker).unwrap();
    assert!(Command::new("kill").args(["-STOP", id.trim()]).status().unwrap().success());
    let printed = run.end();
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    let said = said();
    let (_, after) = said.split_once("ran out of time").unwrap_or_else(|| panic!("{said}"));
    assert!(epochs(after).first().is_none_or(|epoch| *epoch > ENOUGH), "it began anew:\n{after}");
    assert_eq!(project.project.digests(), whole.digests());
    project.has_forgotten_its_jobs();
}
