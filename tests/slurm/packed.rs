//! How nodes become jobs, and what they leave.

use snapbox::str;

use crate::support::{self, PIPELINE, names};
use crate::{JOBS, Project};

/// Three nodes alike, and one that needs them.
const SUM: &str = r#"
results = ["@sum"]
[axes]
number = [1, 2, 3]
[stage.part]
kind = "command"
axes = ["number"]
run = "echo {number} > part; echo $SLURM_ARRAY_JOB_ID >> PLACE/arrays"
outputs = { part = "part" }
[stage.sum]
kind = "command"
inputs = { parts = ["@part"] }
run = "cat inputs/parts/*/* > sum"
outputs = { sum = "sum" }
"#;

fn project(settings: &str) -> Project {
    let project = Project::new(settings, "");
    project.project.write(JOBS, &SUM.replace("PLACE", &project.project.path().display().to_string()));
    project
}

pub fn alike_nodes_are_jobs_of_one_array() {
    let project = project("");
    project.run(&["run", JOBS]).is(str![[r#"
<stderr>
   SUBMITTED 3 nodes   Slurm job [JOB], in 3 jobs
        DONE [TIME] ([PLACE]/4) part/number1
        DONE [TIME] ([PLACE]/4) part/number2
        DONE [TIME] ([PLACE]/4) part/number3
   SUBMITTED sum   Slurm job [JOB]
        DONE [TIME] ([PLACE]/4) sum
4 nodes: 4 ran, 0 cached, 0 failed in [TIME]
wrote results/jobs
<exit code 0>

"#]]);
    let arrays = project.project.read("arrays");
    let arrays: std::collections::BTreeSet<&str> = arrays.lines().collect();
    assert_eq!((project.count("arrays"), arrays.len()), (3, 1), "{arrays:?}");
    project.has_forgotten_its_jobs();
    assert!(project.project.is_clean());
    // Nothing is submitted where nothing has to run.
    project.run(&["run", JOBS]).is(str![[r#"
<stderr>
4 nodes: 0 ran, 4 cached, 0 failed in [TIME]: nothing had to run
wrote results/jobs
<exit code 0>

"#]]);
}

pub fn results_are_those_of_a_run_here() {
    let project = Project::new("[executor.slurm.job]\ngres = \"\"\n", "");
    let printed = project.run(&["run", PIPELINE]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(printed.done().len(), 20);
    project.has_forgotten_its_jobs();
    assert_eq!(project.project.digests(), support::Project::after_a_run().digests());
    // Light nodes run here, in this process.
    assert!(!printed.stderr.contains("SUBMITTED shots/"), "{}", printed.stderr);
}

pub fn nodes_are_packed_into_jobs() {
    let project = project("[executor.slurm]\nnodes_per_job = 2\n");
    project.run(&["run", JOBS, "--only", "part/*"]).is(str![[r#"
<stderr>
   SUBMITTED 3 nodes   Slurm job [JOB], in 2 jobs
        DONE [TIME] ([PLACE]/3) part/number1
        DONE [TIME] ([PLACE]/3) part/number2
        DONE [TIME] ([PLACE]/3) part/number3
3 nodes: 3 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]]);
}

/// Each part waits for the others.
pub fn nodes_of_a_job_compute_at_once() {
    let project = project("[executor.slurm]\nnodes_per_job = 3\nnodes_at_once = 3\n");
    let place = project.project.path().display().to_string();
    let wait = format!(
        "touch {place}/begun{{number}}; for i in $(seq 600); do \
         test $(ls {place} | grep -c begun) = 3 && echo {{number}} > part && exit; sleep 0.1; done; exit 1"
    );
    let parts = SUM.replace("echo {number} > part; echo $SLURM_ARRAY_JOB_ID >> PLACE/arrays", &wait);
    project.project.write(JOBS, &parts);
    let printed = project.run(&["run", JOBS]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let submitted = printed.stderr.lines().find(|line| line.contains("SUBMITTED 3 nodes")).unwrap();
    assert!(!submitted.ends_with("jobs"), "{submitted}");
    assert_eq!(project.project.read("results/jobs/sum"), "1\n2\n3\n");
}

pub fn a_node_that_computes_on_a_device_gets_a_card() {
    let stage = |name: &str| {
        let run = format!("echo {name}: $CUDA_VISIBLE_DEVICES > out");
        format!("[stage.{name}]\nkind = \"command\"\nrun = \"{run}\"\noutputs = {{ out = \"out\" }}\n")
    };
    let jobs = format!("results = [\"@on\", \"@off\"]\n{}device = true\n{}", stage("on"), stage("off"));
    let project = Project::new("", &jobs);
    // A job inherits what the command has that submits it.
    let printed = project.printed(project.command(&["run", JOBS]).env_remove("CUDA_VISIBLE_DEVICES").output().unwrap());
    assert_eq!(printed.done(), names(&["on", "off"]), "{}", printed.stderr);
    assert_eq!(project.project.read("results/jobs/on"), "on: 0\n");
    assert_eq!(project.project.read("results/jobs/off"), "off:\n");
}

pub fn runs_inside_a_job_work() {
    let project = project("");
    let program = project.command(&[]).get_program().to_string_lossy().into_owned();
    // A job of the user's own computes one node where it is, and then hands over the others.
    let script = format!(
        "cd {0}; export MAPLE_PIPE_CONFIG=; {program} run {JOBS} --executor here --only part/number1 && {program} run {JOBS}",
        project.project.path().display()
    );
    let output = format!("--output={}", project.project.file("job.txt").display());
    project.cluster.ask("sbatch", &["--wait", "--cpus-per-task=1", "--mem=100", &output, "--wrap", &script]);
    let printed = project.project.read("job.txt");
    assert!(printed.contains("SUBMITTED 2 nodes"), "{printed}");
    assert_eq!(
        (project.project.read("results/jobs/sum").as_str(), project.count("arrays")),
        ("1\n2\n3\n", 3),
        "{printed}"
    );
}
