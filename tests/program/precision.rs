//! Precisions that are slow on a processor are no surprise.

use snapbox::str;

use super::support::{PIPELINE, Project};

/// In 16 bits on any processor, whatever instructions it has.
const HALF: [&str; 6] = [
    "--set",
    "stage.train.method.precision=fp16",
    "--set",
    "stage.train.numerics=portable",
    "--set",
    "stage.eval.numerics=portable",
];

fn arguments<'a>(command: &[&'a str], node: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [command, &[PIPELINE, "--only", node, "--devices", "cpu"], &HALF, more].concat()
}

#[test]
fn half_precision_on_the_processor_is_said_before_the_first_node() {
    let project = Project::new();
    project.ran(&["run", PIPELINE, "--only", "clip"]);
    let train = "train/shapes/maple/seed1";
    project.prints(
        &arguments(&["run", "--dry-run"], train, &[]),
        str![[r#"
<stdout>
   would run data/shapes   never run
     may run shots/shapes/seed1   waits for data/shapes
     may run train/shapes/maple/seed1   waits for data/shapes
<stderr>
5 nodes: 1 would run, 2 may run after them, 2 up to date
warning: nodes of `train` compute in 16-bit floating point on the processor, where 32-bit takes less time
hint: `--set stage.train.method.precision=fp32` computes in 32 bits, which rounds less than the published code does
no estimate for 3 nodes: their stages have not run yet
<exit code 0>

"#]],
    );
    project.prints(
        &arguments(&["run"], train, &[]),
        str![[r#"
<stderr>
warning: nodes of `train` compute in 16-bit floating point on the processor, where 32-bit takes less time
hint: `--set stage.train.method.precision=fp32` computes in 32 bits, which rounds less than the published code does
        DONE [TIME] (3/5) data/shapes   4 classes, 32 images
        DONE [TIME] (4/5) shots/shapes/seed1   4 images
        DONE [TIME] (5/5) train/shapes/maple/seed1   [NUMBER]
5 nodes: 3 ran, 2 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
    // Nothing to run, nothing to say.
    project.prints(
        &arguments(&["run"], train, &[]),
        str![[r#"
<stderr>
5 nodes: 0 ran, 5 cached, 0 failed in [TIME]: nothing had to run
<exit code 0>

"#]],
    );
    // An evaluation computes as its prompt was trained.
    project.prints(
        &arguments(&["run"], "eval/shapes/maple/seed1/base", &[]),
        str![[r#"
<stderr>
warning: nodes of `eval` compute in 16-bit floating point on the processor, where 32-bit takes less time
hint: `--set stage.train.method.precision=fp32` computes in 32 bits, which rounds less than the published code does
        DONE [TIME] (6/6) eval/shapes/maple/seed1/base   [NUMBER]
6 nodes: 1 ran, 5 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
    // What the hint says ends it.
    let single = ["--set", "stage.train.method.precision=fp32"];
    let printed = project.run(&arguments(&["run"], train, &single));
    assert!(printed.code == Some(0) && !printed.stderr.contains("warning"), "{}", printed.stderr);
    let json = project.run(&arguments(&["run", "--json"], train, &["--set", "stage.train.method.precision=mixed"]));
    let warning = json.stdout.lines().find(|line| line.contains("\"event\":\"warning\"")).unwrap();
    assert!(warning.contains("--set stage.train.method.precision=fp32"), "{warning}");
}

/// On a processor TF32 changes nothing, and yet it is part of what a node is: a card would compute something else.
#[test]
fn tf32_is_a_part_of_keys_and_changes_nothing_on_a_processor() {
    let project = Project::new();
    let node = "train/shapes/maple/seed1";
    let of = |numerics: &str| {
        let setting = format!("stage.train.numerics={numerics}");
        let ran = project.ran(&["run", PIPELINE, "--only", node, "--devices", "cpu", "--set", &setting]);
        assert!(ran.contains(node), "{numerics}: {ran:?}");
        std::fs::read(project.artifact(node, "prompt")).unwrap()
    };
    assert!(of("native") == of("tf32"), "other bits");
}
