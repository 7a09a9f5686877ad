//! The user's command that hears how a run ended.

use serde_json::Value;
use snapbox::str;

use crate::support::{PIPELINE, Project};

/// It hears of every run, also of one in which nothing had to run and of one that failed; what it prints is no data.
#[test]
fn a_command_hears_how_a_run_ended() {
    let project = Project::after_a_run();
    project.write("maple-pipe.toml", "on_end = [\"sh\", \"-c\", \"cat > $0; echo heard\", \"heard.json\"]\n");
    let heard = || -> Value { serde_json::from_str(&project.read("heard.json")).unwrap() };
    let printed = project.run(&["run", PIPELINE, "--json"]);
    assert_eq!((printed.code, printed.stderr.lines().last()), (Some(0), Some("heard")));
    let last: Value = serde_json::from_str(printed.stdout.lines().last().unwrap()).unwrap();
    let said = heard();
    for (name, value) in last.as_object().unwrap() {
        assert_eq!(&said[name], value, "{name}");
    }
    let results = project.file("results/tiny");
    assert_eq!(
        (&said["ran"], &said["pipeline"], said["results"].as_str()),
        (&0.into(), &"tiny".into(), results.to_str())
    );
    let run = said["run"].as_str().unwrap();
    assert!(project.file(&format!(".maple/runs/{run}.jsonl")).is_file(), "{run}");
    let broken =
        ["run", PIPELINE, "--set", "stage.shots.shots=100", "--set", "stage.train.method.training.learning_rate=1e30"];
    let printed = project.run(&broken);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    assert!(heard()["failed"].as_u64().unwrap() > 0, "{}", heard());
    std::fs::remove_file(project.file("heard.json")).unwrap();
    assert_eq!(project.run(&["run", PIPELINE, "--dry-run"]).code, Some(0));
    assert!(!project.file("heard.json").exists());
}

/// The run is over whatever the command does.
#[test]
fn a_command_that_fails_is_a_warning() {
    let project = Project::after_a_run();
    project.write("maple-pipe.toml", "on_end = [\"sh\", \"-c\", \"exit 4\"]\n");
    let printed = project.run(&["run", PIPELINE]);
    assert_eq!(printed.code, Some(0));
    snapbox::assert_data_eq!(
        printed.stderr,
        str![[r#"
20 nodes: 0 ran, 20 cached, 0 failed in [TIME]: nothing had to run
wrote results/tiny
warning: `on_end`: `sh` ended with exit status: 4

"#]]
    );
    project.write("maple-pipe.toml", "on_ends = [\"true\"]\n");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: unknown key `on_ends`
 --> [PROJECT]/maple-pipe.toml:1:1
  |
1 | on_ends = ["true"]
  | ^^^^^^^
  |
  = hint: did you mean `on_end`?
<exit code 2>

"#]],
    );
    project.write("maple-pipe.toml", "on_end = \"true\"\n");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: invalid type: string "true", expected a sequence
 --> [PROJECT]/maple-pipe.toml:1:10
  |
1 | on_end = "true"
  |          ^^^^^^
<exit code 2>

"#]],
    );
}
