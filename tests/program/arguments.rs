//! Numbers on the command line: whatever they are, they are refused or work.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use snapbox::str;

use crate::support::{PIPELINE, Project};

/// A command by the name of its page in the manual, its other arguments, and each number that it takes with a small value.
type Command = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const COMMANDS: &[Command] = &[
    (
        "bench-dag",
        &["bench", "dag"],
        &[("--nodes", "1"), ("--files", "1"), ("--runs", "1"), ("--jobs", "1"), ("--limit", "60")],
    ),
    (
        "bench-images",
        &["bench", "images", "data/shapes/images", "--python", "nowhere"],
        &[("--size", "8"), ("--threads", "1"), ("--runs", "1"), ("--busy", "0")],
    ),
    (
        "bench-step",
        &["bench", "step", "--arch", "tiny", "--method", "coop", "--device", "cpu"],
        &[("--at-once", "1"), ("--batch", "1"), ("--runs", "1"), ("--threads", "1")],
    ),
    (
        "bench-eval",
        &["bench", "eval", "--arch", "tiny", "--method", "clip", "--device", "cpu"],
        &[("--at-once", "1"), ("--batch", "1"), ("--runs", "1"), ("--threads", "1")],
    ),
    (
        "bench-table",
        &["bench", "table", PIPELINE, "--device", "cpu"],
        &[("--at-once", "1"), ("--runs", "1"), ("--threads", "1")],
    ),
    (
        "features",
        &["features", "no.prompt", "data/shapes", "--output", "features.safetensors"],
        &[("--vision-heads", "1"), ("--text-heads", "1"), ("--threads", "1")],
    ),
    ("fewshot", &["fewshot", "--split", "data/shapes/split.json"], &[("--shots", "1"), ("--seed", "1")]),
    ("gc", &["gc", PIPELINE, "--dry-run"], &[("--keep-runs", "1"), ("--keep-days", "1")]),
    ("gc", &["gc", "--remote", "file:///no/such/folder"], &[("--grace", "30")]),
    (
        "predict",
        &["predict", "no.prompt", "data/shapes"],
        &[("--vision-heads", "1"), ("--text-heads", "1"), ("--threads", "1")],
    ),
    ("prompts-interpret", &["prompts", "interpret", "no.prompt", "--weights", "no.weights"], &[("--top", "1")]),
    ("quickstart", &["quickstart", PIPELINE], &[("--jobs", "1"), ("--threads", "1")]),
    ("pull", &["pull", PIPELINE], &[("--remote-timeout", "1")]),
    ("push", &["push", PIPELINE], &[("--remote-timeout", "1")]),
    ("run", &["run", PIPELINE, "--dry-run"], &[("--jobs", "1"), ("--threads", "1"), ("--remote-timeout", "1")]),
    ("runs", &["runs"], &[("-n", "1")]),
    ("runs", &["runs", "--json"], &[("-n", "1")]),
    ("weights-check", &["weights", "check", "no.weights"], &[("--vision-heads", "1"), ("--text-heads", "1")]),
    (
        "weights-convert",
        &["weights", "convert", "no.weights", "new.safetensors"],
        &[("--vision-heads", "1"), ("--text-heads", "1")],
    ),
    ("verify", &["verify", PIPELINE, "--rerun", "data/*"], &[("--jobs", "1"), ("--threads", "1")]),
];

#[test]
fn no_number_is_a_panic() {
    let project = Project::after_a_run();
    for &(_, arguments, numbers) in COMMANDS {
        for (tried, _) in numbers {
            for value in ["0", "4294967295", "18446744073709551615", "18446744073709551616", "-1", "1.5", ""] {
                let numbers =
                    numbers.iter().flat_map(|&(name, small)| [name, if name == *tried { value } else { small }]);
                let command: Vec<&str> = arguments.iter().copied().chain(numbers).collect();
                let printed = project.run(&command);
                assert!(matches!(printed.code, Some(0..=2)), "{command:?}: {:?}\n{}", printed.code, printed.stderr);
            }
        }
    }
}

/// The manual names every number; the test above tries each.
#[test]
fn every_number_is_tried() {
    let project = Project::new();
    project.run(&["man", "pages"]);
    let number = Regex::new(r"(?m)^(?:.*\\fB)((?:\\-)+[a-z\\-]+)\\fR(?: |=)\\fI<(?:N|DAYS|SECONDS)>").unwrap();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(project.file("pages")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let page = project.read(&format!("pages/{name}"));
        let command = name.strip_prefix("maple-pipe-").unwrap_or(&name).strip_suffix(".1").unwrap();
        found.extend(number.captures_iter(&page).map(|option| (command.to_owned(), option[1].replace('\\', ""))));
    }
    let tried = COMMANDS.iter().flat_map(|(command, _, numbers)| numbers.iter().map(|(name, _)| (*command, *name)));
    let tried: BTreeSet<(String, String)> =
        tried.map(|(command, name)| (command.to_owned(), name.to_owned())).collect();
    assert_eq!(found, tried);
}

#[test]
fn a_number_out_of_bounds_is_refused_with_its_bounds() {
    let project = Project::new();
    project.prints(
        &["bench", "images", "data/shapes/images", "--size", "0"],
        str![[r#"
<stderr>
error: invalid value '0' for '--size <N>': 0 is not in 1..=1024

For more information, try '--help'.
<exit code 2>

"#]],
    );
    project.prints(
        &["run", PIPELINE, "--jobs", "100000"],
        str![[r#"
<stderr>
error: invalid value '100000' for '--jobs <N>': 100000 is not in 1..=1024

For more information, try '--help'.
<exit code 2>

"#]],
    );
}
