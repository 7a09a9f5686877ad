//! Jobs of a queue whose programs are shell scripts here, for what a real one does rarely. `tests/slurm` has a real one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use snapbox::str;

use crate::support::{PIPELINE, Project};

const JOBS: &str = "pipelines/jobs.toml";

/// A project with one node, and programs with the names of Slurm's. Each job runs at once, except that the first one is said to
/// have ended so.
pub fn project(first: &str) -> Project {
    let project = Project::new();
    project.write("maple-pipe.toml", "[executor]\nname = \"slurm\"\n[executor.slurm.job]\nmemory = \"4G\"\n");
    project.write(
        JOBS,
        "results = [\"@made\"]\n[stage.made]\nkind = \"command\"\nrun = \"echo 1 > out\"\noutputs = { out = \"out\" }\n",
    );
    // What was asked for, and how the jobs stand.
    project.write("asked", "");
    project.write("queue", "");
    let place = project.path().display();
    let sbatch = format!(
        r#"[ "$1" = --version ] && exit
[ -e {place}/away ] && rm {place}/away && echo "nobody is there" >&2 && exit 1
for word; do
    case $word in --job-name=*) name=${{word#*=}} ;; --mem=*) echo "$word" >> {place}/asked ;; esac
done
number=$(wc -l < {place}/asked)
if [ "$number" = 1 ]; then
    echo "1|0|{first}|$name" > {place}/queue
else
    echo "$number|0|RUNNING|$name" >> {place}/queue
    (SLURM_ARRAY_TASK_ID=0 sh "$word"; sed -i s/RUNNING/COMPLETED/ {place}/queue) > {place}/printed 2>&1 &
fi
echo "$number"
"#
    );
    let [squeue, scancel] = [format!("cat {place}/queue\n"), format!("echo \"$@\" > {place}/cancelled\n")];
    for (name, script) in [("sbatch", sbatch), ("squeue", squeue), ("scancel", scancel)] {
        let path = project.file(&format!("programs/{name}"));
        project.write(&format!("programs/{name}"), &format!("#!/bin/sh\n{script}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    project
}

pub fn command(project: &Project) -> Command {
    // The project's programs come before those of a real cluster.
    let mut command = project.command(&["run", JOBS]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", project.file("programs").display()));
    command
}

#[test]
fn a_job_out_of_memory_gets_more() {
    let project = project("OUT_OF_MEMORY");
    project.printed(command(&project).output().unwrap()).is(str![[r#"
<stderr>
   SUBMITTED made   Slurm job 1
       AGAIN made   it is submitted again: Slurm job 1_0 ran out of memory
   SUBMITTED made   Slurm job 2
        DONE [TIME] (1/1) made
1 node: 1 ran, 0 cached, 0 failed in [TIME]
wrote results/jobs
<exit code 0>

"#]]);
    assert_eq!(project.read("asked"), "--mem=4G\n--mem=8G\n");
    assert_eq!(project.read("results/jobs/made"), "1\n");
}

/// A run whose first job the queue does not know submits another one, which asks for the same.
fn submits_a_forgotten_job_again(project: &Project) {
    project.printed(command(project).output().unwrap()).is(str![[r#"
<stderr>
   SUBMITTED made   Slurm job 1
       AGAIN made   it is submitted again: Slurm job 1 is not known any more
   SUBMITTED made   Slurm job 2
        DONE [TIME] (1/1) made
1 node: 1 ran, 0 cached, 0 failed in [TIME]
wrote results/jobs
<exit code 0>

"#]]);
    assert_eq!(project.read("asked"), "--mem=4G\n--mem=4G\n");
}

#[test]
fn a_job_that_the_queue_forgets_is_submitted_again() {
    // No line of its own: nobody knows a job of this name.
    let project = project("RUNNING|another job of the user's");
    submits_a_forgotten_job_again(&project);
}

#[test]
fn a_queue_that_was_away_for_a_moment_is_asked_again() {
    let project = project("RUNNING|another job of the user's");
    project.write("away", "");
    submits_a_forgotten_job_again(&project);
}

#[test]
fn without_a_cluster_nothing_is_run() {
    let project = Project::new();
    // Whatever this computer has, the program does not find it.
    let output = project.command(&["run", PIPELINE, "--executor", "slurm"]).env("PATH", "/nowhere").output().unwrap();
    project.printed(output).is(str![[r#"
<stderr>
error: there is no program `sbatch`
hint: this computer belongs to no Slurm cluster: `--executor here` runs all nodes where the command runs
<exit code 2>

"#]]);
}
