//! A bucket of a real implementation of S3 (moto's server), behind a server that breaks what it hands on.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use crate::objects::{Fault, ObjectServer};
use crate::support::{Printed, Project};

const COMMANDS: &str = "pipelines/commands.toml";
const REMOTE: &str = "s3://team/maple";

/// Files on both sides of what is sent in parts, and a folder.
const TEXT: &str = r#"
results = ["@all"]

[axes]
number = [1, 2, 3]

[stage.make]
kind = "command"
axes = ["number"]
run = """
head -c {size} /dev/zero > zeros; cat inputs/raw > text; echo {number} >> text
mkdir folder; echo {number} > folder/a; : > folder/b"""
inputs = { raw = "../raw.txt" }
outputs = { text = "text", zeros = "zeros", folder = "folder/" }

[stage.all]
kind = "command"
run = "cat inputs/texts/*/* inputs/folders/*/*/* > all; cat inputs/zeros/*/* | wc -c >> all"
inputs = { texts = ["@make.text"], folders = ["@make.folder"], zeros = ["@make.zeros"] }
outputs = { all = "all" }
"#;

/// A server of S3 with the bucket `team`; it ends with the test.
struct Moto {
    process: Child,
    address: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Moto {
    fn start() -> Moto {
        let mut command = Command::new(program().expect("moto's server is there"));
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it says where it listens").unwrap();
            if let Some((_, address)) = line.split_once("Running on http://") {
                break address.trim().to_owned();
            }
        };
        // What it says of each request is read, lest it wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let mut stream = TcpStream::connect(&address).unwrap();
        let create = format!("PUT /team HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(create.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Moto { process, address }
    }
}

/// The program `moto_server`, if it is in `PATH`.
fn program() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("moto_server")).find(|program| program.is_file())
}

pub fn is_there() -> bool {
    cfg!(feature = "remote") && program().is_some()
}

fn project(size: usize) -> Project {
    let project = Project::new();
    project.write(COMMANDS, &TEXT.replace("{size}", &size.to_string()));
    project.write("raw.txt", &"words ".repeat(10_000));
    project
}

fn command(project: &Project, server: &ObjectServer, arguments: &[&str]) -> Command {
    let mut command = project.command(&[arguments, &["--remote", REMOTE]].concat());
    command.env("AWS_ENDPOINT_URL", &server.url).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "testing").env("AWS_SECRET_ACCESS_KEY", "hidden-key");
    command.env("AWS_SESSION_TOKEN", "hidden-token");
    command
}

fn printed(project: &Project, output: Output) -> Printed {
    let printed = project.printed(output);
    assert!(!printed.stderr.contains("hidden") && !printed.stdout.contains("hidden"), "{}", printed.stderr);
    printed
}

fn run(project: &Project, server: &ObjectServer, arguments: &[&str]) -> Printed {
    printed(project, command(project, server, arguments).output().unwrap())
}

fn warnings(printed: &Printed) -> usize {
    printed.stderr.lines().filter(|line| line.starts_with("warning: ")).count()
}

pub fn a_bucket_is_shared_and_collected() {
    let moto = Moto::start();
    let server = ObjectServer::before(&moto.address);
    // Beyond the size of one part.
    let size = 70_000_000;
    let (first, colleague) = (project(size), project(size));
    let sent = run(&first, &server, &["run", COMMANDS, "--remote-timeout", "60"]);
    assert!(sent.stderr.contains(", 4 results sent") && warnings(&sent) == 0, "{}", sent.stderr);
    assert!(server.asked().iter().any(|(line, _)| line.contains("uploadId")));
    let pulled = run(&colleague, &server, &["run", COMMANDS, "--remote-timeout", "60"]);
    assert!(pulled.stderr.contains("nothing had to run"), "{}", pulled.stderr);
    assert_eq!(colleague.read("results/commands/all"), first.read("results/commands/all"));
    assert!(colleague.run(&["verify"]).stderr.ends_with("all as they were made\n"));
    let kept = run(&first, &server, &["gc"]);
    assert_eq!(kept.stderr, "would free [SIZE] in the remote s3://team/maple: 0 objects; 4 results kept\n");
}

pub fn a_broken_bucket_costs_one_warning_and_nothing_else() {
    let moto = Moto::start();
    let server = ObjectServer::before(&moto.address);
    let first = project(100_000);
    assert_eq!(run(&first, &server, &["run", COMMANDS]).code, Some(0));
    let expected = first.read("results/commands/all");
    const EXPIRED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>ExpiredToken</Code><Message>The provided \
                           token has expired.</Message></Error>";
    type Faults = fn(&str, &str) -> Fault;
    let cases: [(&str, Faults, &str); 7] = [
        ("500", |_, _| Fault::Status("500 Internal Server Error"), "it answers `500 Internal Server Error`"),
        ("expired", |_, _| Fault::Refusal("400 Bad Request", EXPIRED), "it answers `ExpiredToken`"),
        ("silent", |_, _| Fault::Silent, "it does not answer in time"),
        ("closed", |_, _| Fault::Closed, "cannot be used"),
        ("cut", |_, path| if path.contains("format") { Fault::None } else { Fault::Cut }, "holds a damaged object"),
        ("short", |_, path| if path.contains("format") { Fault::None } else { Fault::Short }, "holds a damaged object"),
        ("lies", |_, path| if path.contains("format") { Fault::None } else { Fault::Wrong }, "holds a damaged object"),
    ];
    for (name, faults, says) in cases {
        let colleague = project(100_000);
        server.disturb(faults);
        // Only what never ends is waited for in vain.
        let seconds = if name == "silent" { "1" } else { "60" };
        let ran = run(&colleague, &server, &["run", COMMANDS, "--remote-timeout", seconds]);
        assert_eq!((ran.code, warnings(&ran)), (Some(0), 1), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{name}: {}", ran.stderr);
        assert_eq!(colleague.read("results/commands/all"), expected, "{name}");
        assert!(colleague.run(&["verify"]).stderr.ends_with("all as they were made\n"), "{name}");
        server.disturb(|_, _| Fault::None);
        let third = project(100_000);
        let pulled = run(&third, &server, &["run", COMMANDS]);
        assert!(pulled.stderr.contains("nothing had to run") && warnings(&pulled) == 0, "{name}: {}", pulled.stderr);
    }
}

pub fn two_runs_share_a_bucket_at_the_same_time() {
    let moto = Moto::start();
    let server = ObjectServer::before(&moto.address);
    let projects = [project(100_000), project(100_000)];
    let start = |project: &Project| {
        let mut command = command(project, &server, &["run", COMMANDS]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<Child> = projects.iter().map(start).collect();
    for (project, child) in projects.iter().zip(running) {
        let ran = printed(project, child.wait_with_output().unwrap());
        assert_eq!((ran.code, warnings(&ran)), (Some(0), 0), "{}", ran.stderr);
    }
    let third = project(100_000);
    assert!(run(&third, &server, &["run", COMMANDS]).stderr.contains("nothing had to run"));
    assert_eq!(third.read("results/commands/all"), projects[0].read("results/commands/all"));
    assert!(fs::read_dir(third.file(".maple/records")).unwrap().count() > 0);
}
