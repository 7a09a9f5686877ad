//! Text from outside: names that become paths, labels that are printed, and what programs write.

use snapbox::str;

use crate::support::{PIPELINE, Project};

/// A project whose only stage is a command with these lines.
fn one(lines: &str) -> Project {
    let project = Project::new();
    project.write(PIPELINE, &format!("[stage.one]\nkind = \"command\"\n{lines}\n"));
    project
}

/// What a failed program printed is shown whatever it is, and steers no terminal.
#[test]
fn the_end_of_a_log_is_shown_whatever_is_in_it() {
    let shown = |run: &str| {
        let printed = one(&format!("run = '''{run}'''\noutputs = {{ out = 'out' }}")).run(&["run", PIPELINE]);
        assert_eq!(printed.code, Some(1), "{}", printed.stderr);
        let lines = printed.stderr.lines().filter_map(|line| line.strip_prefix("  | ").map(str::to_owned));
        lines.collect::<Vec<String>>()
    };
    let latin = shown(r"printf 'caf\351\nRuntimeError: out of memory\n' >&2; exit 3");
    assert_eq!(latin, ["caf\u{fffd}", "RuntimeError: out of memory"]);
    assert_eq!(shown(r"printf '1%%\r50%%\r99%%\nout of memory\n'; exit 3"), ["99%", "out of memory"]);
    let long = shown(r"head -c 20000000 /dev/zero | tr '\0' y; exit 3");
    assert_eq!(long, [format!("...{}...", "y".repeat(300))]);
    assert_eq!(shown(r"printf '\033]0;title\007\033[2J\033[31mred\n'; exit 3"), ["␛]0;title␇␛[2J␛[31mred"]);
}

#[test]
fn a_log_in_a_pipe_is_what_was_written() {
    let project = one(r"run = '''printf 'a\r\033[31mb\377\n'; touch out'''
outputs = { out = 'out' }");
    project.ran(&["run", PIPELINE]);
    let output = project.command(&["logs", PIPELINE, "one"]).output().unwrap();
    assert_eq!(output.stdout, b"a\r\x1b[31mb\xff\n");
}

/// What a data set's files name is shown in messages, too.
#[test]
fn what_data_sets_name_steers_no_terminal() {
    let project = Project::new();
    let split = project.read("data/shapes/split.json");
    let class = "\\u001b]0;title\\u0007\\u001b[2J";
    let first = split.split("\",\"").next().map(str::len).unwrap_or_default();
    assert!(first > 0);
    let json: serde_json::Value = serde_json::from_str(&split).unwrap();
    let named = json["train"][0][2].as_str().unwrap().to_owned();
    project.write("data/shapes/split.json", &split.replacen(&format!("\"{named}\""), &format!("\"{class}\""), 1));
    let printed = project.run(&["run", PIPELINE, "--only", "data/*"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    assert!(printed.stderr.contains("␛[2J") && !printed.stderr.contains('\x1b'), "{}", printed.stderr);
}

/// What becomes part of a path stays where it belongs.
#[test]
fn names_that_lead_elsewhere() {
    for name in ["../../esc", "/esc", "", ".hidden", "a/b", "a\\b", &"x".repeat(256)] {
        let project = one(&format!("run = 'echo > o'\noutputs = {{ '{name}' = 'o' }}"));
        let printed = project.run(&["run", PIPELINE]);
        assert_eq!(printed.code, Some(2), "{name}: {}", printed.stderr);
        assert!(printed.stderr.contains("is part of names of files"), "{name}: {}", printed.stderr);
        assert!(printed.stderr.contains(" ^"), "{name}: {}", printed.stderr);
        assert!(!project.file(".maple").exists());
    }
    for name in ["../../esc", "/esc", "", "..", "a/b"] {
        let project = one(&format!("run = 'echo > o'\noutputs = {{ o = 'o' }}\ninputs = {{ '{name}' = 'tiny.toml' }}"));
        let printed = project.run(&["run", PIPELINE]);
        assert_eq!(printed.code, Some(2), "{name}: {}", printed.stderr);
        assert!(printed.stderr.contains("cannot be the name of an input"), "{name}: {}", printed.stderr);
    }
    let project = one("run = 'echo > o'\noutputs = { o = 'o' }");
    for file in ["...toml", "..toml"] {
        std::fs::copy(project.file(PIPELINE), project.file(file)).unwrap();
        assert_eq!(project.run(&["run", file]).code, Some(2));
    }
    project.prints(
        &["run", "...toml"],
        str![[r#"
<stderr>
error: `..`, as the file is called, cannot be the name of a pipeline
hint: rename the file, or give the pipeline a `name`
<exit code 2>

"#]],
    );
    assert!(!project.file(".maple").exists() && !project.file("results").exists());
    one("run = 'echo > o'\noutputs = { '../../esc' = 'o' }").prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: `../../esc` cannot be the name of an output, which is part of names of files: it cannot be empty, start with `.` or hold `/`
 --> pipelines/tiny.toml:4:27
  |
4 | outputs = { '../../esc' = 'o' }
  |                           ^^^
  |
  = hint: a name is for example `metrics`
<exit code 2>

"#]],
    );
    one("run = 'echo > o'\noutputs = { o = 'o' }\nenvironment = { 'A=B' = 'x' }").prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: `A=B` with this value cannot be a variable of the environment
 --> pipelines/tiny.toml:5:25
  |
5 | environment = { 'A=B' = 'x' }
  |                         ^^^
  |
  = hint: no name is empty or holds `=`, and nothing holds a null character
<exit code 2>

"#]],
    );
}

/// Names of files have their limits.
#[test]
fn names_that_are_too_long() {
    let project = |value: usize, stage: usize| {
        let project = Project::new();
        let (value, stage) = ("x".repeat(value), "s".repeat(stage));
        let text = format!(
            "results = [\"@{stage}\"]\n[axes]\na = [\"{value}\"]\n[stage.{stage}]\nkind = \"command\"\naxes = [\"a\"]\n\
             run = \"echo > o\"\noutputs = {{ o = \"o\" }}\n"
        );
        project.write(PIPELINE, &text);
        project
    };
    assert_eq!(project(251, 250).ran(&["run", PIPELINE]).len(), 1);
    let suffix = project(251, 1);
    suffix.replace(PIPELINE, "outputs = { o = \"o\" }", "outputs = { o = \"o.json\" }");
    let printed = suffix.run(&["run", PIPELINE]);
    assert_eq!(printed.code, Some(2), "{}", printed.stderr);
    assert!(printed.stderr.contains("cannot be a file: it cannot be longer than 255 bytes"), "{}", printed.stderr);
    for (value, stage) in [(252, 1), (1, 251), (100_000, 1)] {
        for command in ["run", "status"] {
            let printed = project(value, stage).run(&[command, PIPELINE]);
            assert_eq!(printed.code, Some(2), "{}", printed.stderr);
            assert!(printed.stderr.contains("it cannot be longer than"), "{}", printed.stderr);
            assert!(printed.stderr.contains("^^^"), "{}", printed.stderr);
        }
    }
}

/// What a table prints stands on one line, or it breaks Markdown and LaTeX.
#[test]
fn texts_of_tables_that_are_more_than_a_line() {
    let project = |line: &str| {
        let project = Project::new();
        project.replace(PIPELINE, "caption = ", &format!("{line}\ncaption = "));
        project
    };
    for line in [
        "labels = { shapes = \"First line\\n\\nsecond\" }",
        "labels = { maple = \"a\\tb\" }",
        "labels = { maple = \"\\u001B[31mred\" }",
        "name = \"a\\rb\"",
    ] {
        let printed = project(line).run(&["run", PIPELINE]);
        assert_eq!(printed.code, Some(2), "{line}: {}", printed.stderr);
        assert!(printed.stderr.contains("is printed on one line"), "{}", printed.stderr);
        assert!(printed.stderr.contains("^^^"), "{}", printed.stderr);
    }
    project("labels = { shapes = \"First line\\n\\nsecond\" }").prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: `labels.shapes` is printed on one line, but holds a line break or another control character
  --> pipelines/tiny.toml:73:21
   |
73 | labels = { shapes = "First line\n\nsecond" }
   |                     ^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: write it on one line; in a text of several lines, `\` at the end of one joins it with the next
<exit code 2>

"#]],
    );
}

/// A slip in the axes is told before it fills the memory.
#[test]
fn axes_of_too_many_combinations() {
    let values = (0..100).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let each = |text: &dyn Fn(char) -> String| "abcdefgh".chars().map(text).collect::<Vec<_>>();
    let axes = each(&|axis| format!("{axis} = [{values}]")).join("\n");
    let names = each(&|axis| format!("\"{axis}\"")).join(", ");
    let all = each(&|axis| format!("{axis} = [{values}]")).join(", ");
    let project = Project::new();
    let stage =
        format!("[stage.s]\nkind = \"command\"\nrun = \"echo > o\"\noutputs = {{ o = \"o\" }}\naxes = [{names}]\n");
    for (more, message) in [
        (String::new(), "with stage `s` the pipeline has more than 250000 nodes"),
        (format!("extra = {{ {all} }}\n"), "these are more than 250000 combinations"),
    ] {
        project.write(PIPELINE, &format!("[axes]\n{axes}\n\n{stage}{more}"));
        let printed = project.run(&["status", PIPELINE]);
        assert_eq!(printed.code, Some(2), "{}", printed.stderr);
        assert!(printed.stderr.contains(message), "{}", printed.stderr);
    }
}

/// A slip in the name of a file or a folder is told, whatever names it.
#[test]
fn paths_that_are_nearly_right() {
    let slip = |from: &str, to: &str| {
        let project = Project::new();
        let text = project.read(PIPELINE);
        assert!(text.contains(from), "{from}");
        project.write(PIPELINE, &text.replacen(from, to, 1));
        project
    };
    slip("method = [\"clip\", \"coop\", \"maple\"]", "method = [\"clip\", \"coop\", \"mapel\"]").prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: could not read `pipelines/methods/mapel.toml`: No such file or directory (os error 2)
  --> pipelines/tiny.toml:47:10
   |
47 | method = "methods/{method}.toml"
   |          ^^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: did you mean `pipelines/methods/maple.toml`?
<exit code 2>

"#]],
    );
    slip("dataset = [\"shapes\"]", "dataset = [\"shaeps\"]").prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: could not read `pipelines/../manifests/shaeps.toml`: No such file or directory (os error 2)
  --> pipelines/tiny.toml:32:12
   |
32 | manifest = "../manifests/{dataset}.toml"
   |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: did you mean `pipelines/../manifests/shapes.toml`?
<exit code 2>

"#]],
    );
    slip("\"methods/{method}.toml\"", "\"method/{method}.toml\"").prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: could not read `pipelines/method/coop.toml`: No such file or directory (os error 2)
  --> pipelines/tiny.toml:47:10
   |
47 | method = "method/{method}.toml"
   |          ^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: did you mean `pipelines/methods/coop.toml`?

error: could not read `pipelines/method/maple.toml`: No such file or directory (os error 2)
  --> pipelines/tiny.toml:47:10
   |
47 | method = "method/{method}.toml"
   |          ^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: did you mean `pipelines/methods/maple.toml`?
<exit code 2>

"#]],
    );
    one("run = 'cp inputs/raw o'\noutputs = { o = 'o' }\ninputs = { raw = '../manifest/shapes.toml' }").prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: there is no file or folder `pipelines/../manifest/shapes.toml`
 --> pipelines/tiny.toml:5:18
  |
5 | inputs = { raw = '../manifest/shapes.toml' }
  |                  ^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = hint: did you mean `pipelines/../manifests/shapes.toml`?
<exit code 2>

"#]],
    );
}
