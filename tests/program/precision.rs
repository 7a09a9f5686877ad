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
    project.prints(&arguments(&["run", "--dry-run"], train, &[]), str![[""]]);
    project.prints(&arguments(&["run"], train, &[]), str![[""]]);
    // Nothing to run, nothing to say.
    project.prints(&arguments(&["run"], train, &[]), str![[""]]);
    // An evaluation computes as its prompt was trained.
    project.prints(&arguments(&["run"], "eval/shapes/maple/seed1/base", &[]), str![[""]]);
    // What the hint says ends it.
    let single = ["--set", "stage.train.method.precision=fp32"];
    let printed = project.run(&arguments(&["run"], train, &single));
    assert!(printed.code == Some(0) && !printed.stderr.contains("warning"), "{}", printed.stderr);
    let json = project.run(&arguments(&["run", "--json"], train, &["--set", "stage.train.method.precision=mixed"]));
    let warning = json.stdout.lines().find(|line| line.contains("\"event\":\"warning\"")).unwrap();
    assert!(warning.contains("--set stage.train.method.precision=fp32"), "{warning}");
}
