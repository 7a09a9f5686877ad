//! Stores that a team shares: folders and web servers, whole and broken.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use maple_pipe::digest::Digest;
use maple_pipe::store::Record;
use snapbox::str;

use crate::objects::{Fault, ObjectServer};
use crate::running::{Running, eventually};
use crate::support::{PIPELINE, Printed, Project, damage};

/// A pipeline of commands: each makes a file that is not small and a folder, and one reads them all.
const COMMANDS: &str = "pipelines/commands.toml";
const TEXT: &str = r#"
results = ["@all"]

[axes]
number = [1, 2, 3]

[stage.make]
kind = "command"
axes = ["number"]
run = """
for i in 1 2 3 4; do cat inputs/raw; done > text
echo {number} >> text; mkdir folder; echo {number} > folder/a; : > folder/b"""
inputs = { raw = "../raw.txt" }
outputs = { text = "text", folder = "folder/" }

[stage.all]
kind = "command"
run = "cat inputs/texts/*/* inputs/folders/*/*/* > all"
inputs = { texts = ["@make.text"], folders = ["@make.folder"] }
outputs = { all = "all" }
"#;

/// A project with that pipeline in which nothing has run.
fn commands() -> Project {
    let project = Project::new();
    project.write(COMMANDS, TEXT);
    project.write("raw.txt", &"words ".repeat(4_000));
    project
}

/// A folder in which a team shares results, in a project's folder.
fn team(project: &Project) -> String {
    let folder = project.file("team");
    fs::create_dir_all(&folder).unwrap();
    format!("file://{}", folder.display())
}

/// Runs a command with a remote, which has more time than it ever needs.
fn with_remote(project: &Project, remote: &str, arguments: &[&str]) -> Printed {
    within(project, remote, "60", arguments)
}

/// The same with a remote that may be silent for so many seconds.
fn within(project: &Project, remote: &str, seconds: &str, arguments: &[&str]) -> Printed {
    project.run(&[arguments, &["--remote", remote, "--remote-timeout", seconds]].concat())
}

/// The lines of a run that are about a remote, and their number.
fn warnings(printed: &Printed) -> Vec<&str> {
    printed.stderr.lines().filter(|line| line.starts_with("warning: ")).collect()
}

#[test]
fn a_colleague_pulls_what_is_finished_and_trains_nothing() {
    let (project, colleague) = (Project::after_a_run(), Project::new());
    let remote = team(&colleague);
    let pushed = with_remote(&project, &remote, &["push", PIPELINE]);
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    assert!(pushed.stderr.contains("20 nodes: 20 up to date\n") && pushed.stderr.contains(", 20 results sent"));
    with_remote(&colleague, &remote, &["run", PIPELINE, "--dry-run"]).is(str![[r#"
<stderr>
20 nodes: 0 would run, 0 may run after them, 20 up to date
remote file://[PROJECT]/team: 20 results would be pulled
<exit code 0>

"#]]);
    let run = with_remote(&colleague, &remote, &["run", PIPELINE]);
    run.is(str![[r#"
<stdout>

[TABLE]

<stderr>
20 nodes: 0 ran, 20 cached, 0 failed in [TIME]: nothing had to run
remote file://[PROJECT]/team: 20 results pulled ([SIZE]), 4 requests
wrote results/tiny
<exit code 0>

"#]]);
    assert_eq!(colleague.digests(), project.digests());
    assert_eq!(colleague.read("results/tiny/table.md"), project.read("results/tiny/table.md"));
    // From now on the local store is like any other.
    let verified = colleague.run(&["verify"]);
    assert!(verified.stderr.ends_with("all as they were made\n"), "{}", verified.stderr);
    assert!(colleague.run(&["run", PIPELINE]).stderr.contains("nothing had to run"));
    let trace = colleague.json(&["table", PIPELINE, "--trace", "maple", "shapes", "base", "--json"]);
    assert!(trace["nodes"].as_array().unwrap().iter().all(|node| node["made_by"]["host"].is_string()));
}

#[test]
fn a_run_sends_what_it_makes_and_what_the_remote_lacks() {
    let (project, colleague) = (commands(), commands());
    let remote = team(&project);
    // Without a remote, one node; with it, the others.
    project.ran(&["run", COMMANDS, "--only", "make/number1"]);
    with_remote(&project, &remote, &["run", COMMANDS, "--jobs", "1"]).is(str![[r#"
<stderr>
        DONE [TIME] (2/4) make/number2
        DONE [TIME] (3/4) make/number3
        DONE [TIME] (4/4) all
4 nodes: 3 ran, 1 cached, 0 failed in [TIME]
remote file://[PROJECT]/team: 0 results pulled ([SIZE]), 4 results sent ([SIZE]), 26 requests
wrote results/commands
<exit code 0>

"#]]);
    let printed = with_remote(&colleague, &remote, &["run", COMMANDS]);
    assert!(printed.stderr.contains("nothing had to run") && printed.stderr.contains(": 4 results pulled"));
    assert_eq!(colleague.read("results/commands/all"), project.read("results/commands/all"));
    // One node that is new goes there, too, whoever makes it.
    let more = ["run", COMMANDS, "--set", "axes.number=[1,2,3,4]"];
    let printed = with_remote(&colleague, &remote, &more);
    assert!(printed.stderr.contains("2 ran, 3 cached") && printed.stderr.contains(", 2 results sent"));
    let printed = with_remote(&project, &remote, &more);
    assert!(printed.stderr.contains("nothing had to run"), "{}", printed.stderr);
    // What is here alone is not asked for, nor sent again.
    let printed = with_remote(&project, &remote, &more);
    assert!(printed.stderr.contains(": 0 results pulled") && !printed.stderr.contains("sent"), "{}", printed.stderr);
}

#[test]
fn readonly_sends_nothing() {
    let project = commands();
    let remote = team(&project);
    let printed = with_remote(&project, &remote, &["run", COMMANDS, "--remote-readonly"]);
    assert!(printed.code == Some(0) && printed.stderr.contains(": 0 results pulled"), "{}", printed.stderr);
    assert_eq!(fs::read_dir(project.file("team")).unwrap().count(), 0);
    let printed = with_remote(&project, &remote, &["push", COMMANDS, "--remote-readonly"]);
    assert_eq!(printed.code, Some(2));
    let printed = project.run(&["push", COMMANDS]);
    assert!(printed.code == Some(2) && printed.stderr.contains("no remote is named"), "{}", printed.stderr);
    let missing = format!("{remote}/missing");
    project.run(&["run", COMMANDS, "--remote", &missing]).is(str![[r#"
<stderr>
warning: the remote `file://[PROJECT]/team/missing` cannot be used: there is no such folder (make it first, or mount it)
hint: the local store does without it; `maple-pipe push` sends later what is missing there
4 nodes: 0 ran, 4 cached, 0 failed in [TIME]: nothing had to run
remote file://[PROJECT]/team/missing: 0 results pulled ([SIZE]), 1 request
wrote results/commands
<exit code 0>

"#]]);
}

#[test]
fn settings_name_a_remote_and_how_to_use_it() {
    let project = commands();
    let set = |more: &str| {
        let remote = team(&project);
        project.write("maple-pipe.toml", &format!("[remote]\nurl = \"{remote}\"\nreadonly = true\n{more}"));
    };
    set("");
    let printed = project.run(&["run", COMMANDS]);
    assert!(printed.stderr.contains("\nremote file://") && !printed.stderr.contains("sent"), "{}", printed.stderr);
    assert!(!project.run(&["run", COMMANDS, "--remote", ""]).stderr.contains("remote"));
    assert_eq!(fs::read_dir(project.file("team")).unwrap().count(), 0);
    set("require = [\"host\"]\n");
    project.run(&["pull", COMMANDS]).is(str![[r#"
<stderr>
error: name `build`, `libtorch` or `kind=NAME`, where NAME is a part of what `explain` shows
 --> [PROJECT]/maple-pipe.toml:4:11
  |
4 | require = ["host"]
  |           ^^^^^^^^
<exit code 2>

"#]]);
}

/// Everything that a shared folder holds is damaged in some way.
#[test]
fn a_damaged_folder_costs_one_warning_and_is_mended() {
    let project = commands();
    project.ran(&["run", COMMANDS]);
    let expected = project.read("results/commands/all");
    let cut = |path: &Path| {
        let content = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, &content[..content.len() / 2]).unwrap();
    };
    let other: &dyn Fn(&Path) = &damage;
    for (folders, spoil) in [
        ("artifacts folders", other),
        ("records", other),
        ("artifacts folders records bundles", &cut),
        ("bundles", other),
    ] {
        let colleague = commands();
        let remote = team(&colleague);
        assert_eq!(with_remote(&project, &remote, &["push", COMMANDS]).code, Some(0));
        // What answers for all at once would hide what small objects hold.
        if !folders.contains("bundles") {
            fs::remove_dir_all(colleague.file("team/bundles")).unwrap();
        }
        for folder in folders.split(' ') {
            let files = walkdir::WalkDir::new(colleague.file("team").join(folder)).into_iter().flatten();
            files.filter(|entry| entry.file_type().is_file() && entry.metadata().unwrap().len() > 0).for_each(|file| {
                spoil(file.path());
            });
        }
        let printed = with_remote(&colleague, &remote, &["run", COMMANDS]);
        assert_eq!((printed.code, warnings(&printed).len()), (Some(0), 1), "{}", printed.stderr);
        assert!(warnings(&printed)[0].contains("holds a damaged object, `"), "{}", printed.stderr);
        assert_eq!(colleague.read("results/commands/all"), expected);
        assert!(colleague.run(&["verify"]).stderr.ends_with("all as they were made\n"));
        // What it made, it sent.
        let third = commands();
        let printed = with_remote(&third, &remote, &["run", COMMANDS]);
        assert!(printed.stderr.contains("nothing had to run") && warnings(&printed).is_empty(), "{}", printed.stderr);
    }
}

#[test]
fn a_broken_server_costs_one_warning_and_nothing_else() {
    let project = commands();
    project.ran(&["run", COMMANDS]);
    let expected = project.read("results/commands/all");
    type Faults = fn(&str, &str) -> Fault;
    let cases: [(&str, Faults, &str); 13] = [
        ("down", |_, _| Fault::Closed, "cannot be used: "),
        (
            "500",
            |_, _| Fault::Status("500 Internal Server Error"),
            "cannot be used: it answers `500 Internal Server Error`",
        ),
        ("refuses", |_, _| Fault::Status("403 Forbidden"), "cannot be used: it answers `403 Forbidden`"),
        ("silent", |_, _| Fault::Silent, "cannot be used: it does not answer in time"),
        ("slow", |_, _| Fault::Slow, "cannot be used: it sends less than "),
        (
            "silent at last",
            |_, path| if path.contains("/artifacts/") { Fault::Silent } else { Fault::None },
            "cannot be used: it does not answer in time",
        ),
        ("cut", |_, path| if path.contains("/format") { Fault::None } else { Fault::Cut }, "holds a damaged object, `"),
        (
            "short",
            |_, path| if path.contains("/format") { Fault::None } else { Fault::Short },
            "holds a damaged object, `",
        ),
        (
            "lies",
            |_, path| if path.contains("/format") { Fault::None } else { Fault::Wrong },
            "holds a damaged object, `",
        ),
        (
            "takes nothing",
            |method, _| if method == "PUT" { Fault::Status("507 Insufficient Storage") } else { Fault::None },
            "nothing more is sent to the remote",
        ),
        (
            "full",
            |method, _| if method == "PUT" { Fault::Closed } else { Fault::None },
            "nothing more is sent to the remote",
        ),
        (
            "takes nothing and says nothing",
            |method, _| if method == "PUT" { Fault::Silent } else { Fault::None },
            "nothing more is sent to the remote",
        ),
        ("expired", |_, _| Fault::Status("401 Unauthorized"), "cannot be used: it answers `401 Unauthorized`"),
    ];
    for (name, faults, says) in cases {
        let server = ObjectServer::start();
        let remote = format!("{}/team", server.url);
        assert_eq!(with_remote(&project, &remote, &["push", COMMANDS]).code, Some(0), "{name}");
        // The next run has something to send, too.
        let colleague = commands();
        server.disturb(move |method, path| {
            let is_bundle = path.contains("/bundles/") && method == "GET";
            if is_bundle && name != "down" { Fault::Status("404 Not Found") } else { faults(method, path) }
        });
        let arguments = ["run", COMMANDS, "--set", "axes.number=[1,2,3]", "--set", "stage.all.parameters.again=1"];
        // Only what never ends is waited for in vain.
        let seconds =
            if ["silent", "says nothing", "slow"].iter().any(|word| name.contains(word)) { "1" } else { "60" };
        let printed = within(&colleague, &remote, seconds, &arguments);
        assert_eq!((printed.code, warnings(&printed).len()), (Some(0), 1), "{name}: {}", printed.stderr);
        assert!(warnings(&printed)[0].contains(says), "{name}: {}", printed.stderr);
        let folder = fs::read_dir(colleague.file("results")).unwrap().next().unwrap().unwrap().path();
        assert_eq!(fs::read_to_string(folder.join("all")).unwrap(), expected, "{name}");
        assert!(colleague.run(&["verify"]).stderr.ends_with("all as they were made\n"), "{name}");
        assert!(colleague.is_clean(), "{name}");
        // A few requests show that it is of no use.
        if says.contains("cannot be used") && name != "silent at last" {
            let asked = server.asked().iter().filter(|(line, _)| line.starts_with("GET")).count();
            assert!(asked < 10, "{name}: {asked}");
        }
        let pushed = within(&colleague, &remote, seconds, &["push", COMMANDS]);
        assert!(pushed.code == Some(0) || pushed.code == Some(1) && pushed.stderr.contains("error: "), "{name}");
        // Once it works again, so does sharing.
        server.disturb(|_, _| Fault::None);
        assert_eq!(with_remote(&colleague, &remote, &["push", COMMANDS]).code, Some(0), "{name}");
        let third = commands();
        let printed = with_remote(&third, &remote, &["run", COMMANDS]);
        assert!(printed.stderr.contains("nothing had to run"), "{name}: {}", printed.stderr);
    }
}

#[test]
fn a_server_that_stumbles_is_asked_again() {
    let project = commands();
    let server = ObjectServer::start();
    let remote = format!("{}/team", server.url);
    let seen = Mutex::new(HashSet::new());
    // The first request for each object fails.
    server.disturb(move |method, path| {
        let is_first = seen.lock().unwrap().insert(format!("{method} {path}"));
        if is_first { Fault::Status("503 Service Unavailable") } else { Fault::None }
    });
    let printed = with_remote(&project, &remote, &["run", COMMANDS]);
    assert!(warnings(&printed).is_empty() && printed.stderr.contains(", 4 results sent"), "{}", printed.stderr);
}

#[test]
fn a_server_that_is_far_away_is_as_good() {
    let (project, colleague) = (commands(), commands());
    let server = ObjectServer::start();
    let remote = format!("{}/team", server.url);
    server.disturb(|_, _| Fault::Far);
    let printed = with_remote(&project, &remote, &["run", COMMANDS]);
    assert!(warnings(&printed).is_empty() && printed.stderr.contains(", 4 results sent"), "{}", printed.stderr);
    server.asked();
    let printed = with_remote(&colleague, &remote, &["run", COMMANDS]);
    assert!(warnings(&printed).is_empty() && printed.stderr.contains("nothing had to run"), "{}", printed.stderr);
    // The format, the bundle, and what is too large for it: three texts, three folders, and what was made of all.
    assert_eq!(server.asked().len(), 9);
}

/// The last question is answered when the node that has begun before it is done.
#[test]
fn nodes_run_while_the_remote_is_asked() {
    let project = Project::new();
    let go = project.file("go");
    let text = format!(
        "[stage.long]\nkind = \"command\"\noutputs = {{ text = \"text\" }}\n\
         run = \"while ! [ -e {} ]; do sleep 0.02; done; echo long > text\"\n\
         [stage.short]\nkind = \"command\"\noutputs = {{ text = \"text\" }}\nrun = \"echo short > text\"\n\
         [stage.last]\nkind = \"command\"\ninputs = {{ short = \"@short.text\" }}\noutputs = {{ text = \"text\" }}\n\
         run = \"cat inputs/short > text\"\n",
        go.display()
    );
    project.write(COMMANDS, &text);
    let server = ObjectServer::start();
    let (records, is_held) = (Mutex::new(HashSet::new()), Arc::new(AtomicBool::new(false)));
    let held = is_held.clone();
    server.disturb(move |method, path| {
        if method != "GET" || !path.contains("/records/") {
            return Fault::None;
        }
        let mut records = records.lock().unwrap();
        let is_last = records.len() == 2 && !records.contains(path);
        if is_last {
            held.store(true, Relaxed);
            return Fault::Held;
        }
        records.insert(path.to_owned());
        Fault::None
    });
    let remote = format!("{}/team", server.url);
    let run = Running::start(&project, "run", &["run", COMMANDS, "--jobs", "2", "--remote", &remote]);
    eventually("the remote is asked for the last node", || is_held.load(Relaxed));
    fs::write(go, "").unwrap();
    run.says("(2/3) long");
    server.disturb(|_, _| Fault::None);
    let printed = run.end();
    assert!(printed.code == Some(0) && printed.stderr.contains("3 ran, 0 cached"), "{}", printed.stderr);
    assert!(printed.stderr.contains(", 3 results sent"), "{}", printed.stderr);
}

/// The remote takes nothing, and never says so.
#[test]
fn interrupts_end_the_sending() {
    let project = commands();
    let server = ObjectServer::start();
    server.disturb(|method, _| if method == "PUT" { Fault::Silent } else { Fault::None });
    let remote = format!("{}/team", server.url);
    let arguments = ["run", COMMANDS, "--json", "--remote", &remote, "--remote-timeout", "3600"];
    let run = Running::start(&project, "run", &arguments);
    let events = project.file("run.out");
    eventually("nothing but the sending is left", || {
        let text = fs::read_to_string(&events).unwrap();
        text.split_once("\"position\":4").is_some_and(|(_, later)| later.contains("\"sharing\""))
    });
    // Two of the same kind could become one.
    run.signal("TERM");
    run.signal("INT");
    assert_eq!(run.end().code, Some(130));
    // Nothing of what was made is lost.
    let printed = project.run(&["run", COMMANDS]);
    assert!(printed.stderr.contains("nothing had to run"), "{}", printed.stderr);
}

#[test]
fn nobody_listens() {
    let project = commands();
    // Port 9 is for what nobody reads.
    let printed = with_remote(&project, "http://127.0.0.1:9/team", &["run", COMMANDS]);
    assert_eq!((printed.code, warnings(&printed).len()), (Some(0), 1), "{}", printed.stderr);
    with_remote(&project, "http://127.0.0.1:9/team", &["push", COMMANDS]).is(str![[r#"
<stderr>
4 nodes: 4 up to date
remote http://127.0.0.1:9/team: 0 results pulled ([SIZE]), 1 request
error: the remote `http://127.0.0.1:9/team` cannot be used: Connection refused (os error 111)
hint: the local store does without it; `maple-pipe push` sends later what is missing there
<exit code 1>

"#]]);
}

#[test]
fn a_password_is_sent_and_never_shown() {
    let project = commands();
    let server = ObjectServer::start();
    let remote = format!("{}/team?token=hidden", server.url.replace("http://", "http://me:very%20secret@"));
    let mut command = project.command(&["run", COMMANDS, "--json", "--remote", &remote]);
    command.env("AWS_SECRET_ACCESS_KEY", "hidden");
    let output = command.output().unwrap();
    assert!(output.status.success());
    // me:very secret
    assert!(server.asked().iter().all(|(_, authorization)| authorization == "Basic bWU6dmVyeSBzZWNyZXQ="));
    server.disturb(|_, _| Fault::Status("401 Unauthorized"));
    let failed = project.command(&["push", COMMANDS, "--remote", &remote]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let mut help = project.command(&["run", "--help"]);
    let help = help.env("MAPLE_REMOTE", &remote).output().unwrap();
    let mut seen: Vec<Vec<u8>> = [output, failed, help].into_iter().flat_map(|one| [one.stdout, one.stderr]).collect();
    for entry in walkdir::WalkDir::new(project.path()).into_iter().flatten().filter(|entry| entry.file_type().is_file())
    {
        seen.push(fs::read(entry.path()).unwrap());
    }
    for text in seen {
        let text = String::from_utf8_lossy(&text);
        assert!(
            !["secret@", "very%20secret", "very secret", "hidden"].iter().any(|secret| text.contains(secret)),
            "{text}"
        );
    }
}

#[test]
fn what_was_made_otherwise_is_refused_where_the_user_asks_for_it() {
    let (project, colleague) = (Project::after_a_run(), Project::new());
    let remote = team(&colleague);
    assert_eq!(with_remote(&project, &remote, &["push", PIPELINE]).code, Some(0));
    let pulled = |requirement: &str| {
        let printed = Project::new().run(&["pull", PIPELINE, "--remote", &remote, "--require", requirement]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        printed.stderr.lines().next().unwrap().to_owned()
    };
    let key = project.records()["clip"]["key"].as_str().unwrap().to_owned();
    let file = colleague.file(&format!("team/records/{}/{key}.json", &key[..2]));
    let mut record = Record::parse(&fs::read_to_string(&file).unwrap(), &Digest::parse(&key).unwrap()).unwrap();
    let kind = record.made_by.as_ref().unwrap().kind().unwrap();
    assert_eq!(pulled("build"), "20 nodes: 20 up to date");
    assert_eq!(pulled(&format!("kind={kind}")), "20 nodes: 20 up to date");
    // What no libtorch computed is the same everywhere.
    assert_eq!(pulled("kind=H100"), "20 nodes: 4 up to date");
    // As if another build had made it.
    record.made_by.as_mut().unwrap().build = "0123456789abcdef".to_owned();
    fs::write(&file, record.text()).unwrap();
    fs::remove_dir_all(colleague.file("team/bundles")).unwrap();
    assert_eq!(pulled("libtorch"), "20 nodes: 20 up to date");
    assert_eq!(pulled("build"), "20 nodes: 4 up to date");
    let printed = with_remote(&colleague, &remote, &["pull", PIPELINE, "--require", "host"]);
    assert!(printed.code == Some(2) && printed.stderr.contains("name `build`, `libtorch` or `kind=NAME`"));
}

#[test]
fn prepared_pixels_are_shared_on_request() {
    let (project, colleague) = (Project::after_a_run(), Project::new());
    let remote = team(&colleague);
    let pixels = |project: &Project| {
        let entries = fs::read_dir(project.file(".maple/pixels")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".pixels"));
        names.sort();
        names
    };
    assert_eq!(with_remote(&project, &remote, &["push", PIPELINE]).code, Some(0));
    assert!(!colleague.file("team/pixels").exists());
    assert_eq!(with_remote(&project, &remote, &["push", PIPELINE, "--remote-pixels"]).code, Some(0));
    assert_eq!(with_remote(&colleague, &remote, &["pull", PIPELINE]).code, Some(0));
    assert!(pixels(&colleague).is_empty());
    assert_eq!(with_remote(&colleague, &remote, &["pull", PIPELINE, "--remote-pixels"]).code, Some(0));
    assert!(!pixels(&project).is_empty());
    assert_eq!(pixels(&colleague), pixels(&project));
    // A damaged one is none.
    let third = Project::new();
    damage(&colleague.file("team/pixels").join(&pixels(&project)[0]));
    let printed = with_remote(&third, &remote, &["pull", PIPELINE, "--remote-pixels"]);
    assert!(
        printed.code == Some(1) && printed.stderr.contains("holds a damaged object, `pixels/"),
        "{}",
        printed.stderr
    );
    assert_eq!(pixels(&third).len() + 1, pixels(&project).len());
}

#[test]
fn gc_removes_from_a_remote_what_nobody_has_used_for_long() {
    let project = commands();
    let remote = team(&project);
    with_remote(&project, &remote, &["run", COMMANDS]);
    with_remote(&project, &remote, &["run", COMMANDS, "--set", "axes.number=[3,4]"]);
    let old = SystemTime::now() - Duration::from_secs(40 * 24 * 60 * 60);
    let files = || {
        let files = walkdir::WalkDir::new(project.file("team")).into_iter().flatten();
        files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path)
    };
    for file in files() {
        fs::File::options().append(true).open(&file).unwrap().set_modified(old).unwrap();
    }
    // One of the two pipelines is still used.
    assert_eq!(with_remote(&project, &remote, &["run", COMMANDS]).code, Some(0));
    let before = files().count();
    project.run(&["gc", "--remote", &remote]).is(str![[r#"
<stdout>
artifacts (3, [SIZE])
bundles (1, [SIZE])
folders (1, [SIZE])
records (2, [SIZE])
<stderr>
would free [SIZE] in the remote file://[PROJECT]/team: 7 objects; 4 results kept
hint: `--remove` removes them
<exit code 0>

"#]]);
    assert_eq!(files().count(), before);
    let printed = project.run(&["gc", "--remote", &remote, "--remove"]);
    assert!(printed.code == Some(0) && printed.stderr.starts_with("freed "), "{}", printed.stderr);
    assert_eq!(files().count(), before - 7);
    let colleague = commands();
    assert!(with_remote(&colleague, &remote, &["run", COMMANDS]).stderr.contains("nothing had to run"));
    let printed = project.run(&["gc", "--remote", &remote, "--grace", "1"]);
    assert!(printed.code == Some(2) && printed.stderr.contains("`--grace 2`"), "{}", printed.stderr);
}
