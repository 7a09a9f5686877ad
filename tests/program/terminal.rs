//! Terminals that go away, streams that cannot be written, and rows that fit.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maple_pipe::graph::Graph;
use maple_pipe::pipeline::Pipeline;
use maple_pipe::run::{DeviceChoice, Event, Interrupts, Options, Wanted, run};
use maple_pipe::store::Store;
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use signal_hook::consts::SIGHUP;

use crate::queue;
use crate::running::{WAITING, eventually, is_alive, started, waiting};
use crate::support::{PIPELINE, Project, names};

/// Nine quick nodes.
const NINE: &str = "pipelines/nine.toml";
const NINE_TEXT: &str = r#"
results = ["@made"]
[axes]
number = [1, 2, 3, 4, 5, 6, 7, 8, 9]
[stage.made]
kind = "command"
axes = ["number"]
run = "echo {number} > out"
outputs = { out = "out" }
"#;

/// A terminal with a program on it.
struct Terminal {
    /// Our end; without it the terminal is gone.
    ours: Option<File>,
    child: Child,
    screen: Screen,
}

impl Terminal {
    /// Starts a command as the leader of a session on a new terminal.
    fn start(mut command: Command, columns: u16) -> Terminal {
        // A signal that is ignored stays so in a program that is started, one with a handler does not.
        if !maple_pipe::signals::of_the_end().contains(&SIGHUP) {
            signal_hook::flag::register(SIGHUP, Arc::default()).unwrap();
        }
        let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::grantpt(&ours).unwrap();
        rustix::pty::unlockpt(&ours).unwrap();
        rustix::fs::fcntl_setfl(&ours, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&ours, size).unwrap();
        let name = rustix::pty::ptsname(&ours, Vec::new()).unwrap();
        let theirs = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, rustix::fs::Mode::empty()).unwrap();
        let stream = || Stdio::from(theirs.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(stream()).stdout(stream()).stderr(stream());
        let lead = || {
            rustix::process::setsid()?;
            // Standard input is the terminal by now.
            rustix::process::ioctl_tiocsctty(std::io::stdin().as_fd())?;
            Ok(())
        };
        #[expect(unsafe_code, reason = "two system calls between fork and exec")]
        // SAFETY: the closure makes system calls and allocates nothing.
        let child = unsafe { command.pre_exec(lead) }.spawn().unwrap();
        drop(command);
        Terminal { ours: Some(ours.into()), child, screen: Screen::new(columns.into(), 24) }
    }

    /// Takes in what has been drawn.
    fn look(&mut self) -> String {
        let mut bytes = [0; 4096];
        while let Some(count) =
            self.ours.as_mut().and_then(|ours| ours.read(&mut bytes).ok()).filter(|count| *count > 0)
        {
            self.screen.draw(&bytes[..count]);
        }
        self.screen.text()
    }

    /// Waits until the screen shows something.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let start = Instant::now();
        while !self.look().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(60), "in vain: {text}\n{}", self.screen.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.ours.as_mut().unwrap().write_all(keys).unwrap();
    }

    fn close(&mut self) {
        self.ours = None;
    }

    /// Waits for the end; the exit code, and what the screen shows then.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            self.look();
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "it does not end\n{}", self.screen.text());
            std::thread::sleep(Duration::from_millis(5));
        };
        self.look();
        (status.code(), self.screen.text())
    }
}

/// What a terminal shows.
struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    /// As many as there are columns where the next character begins a line.
    column: usize,
    /// What is not a whole sequence yet.
    rest: Vec<u8>,
}

impl Screen {
    fn new(columns: usize, rows: usize) -> Screen {
        Screen { lines: vec![vec![' '; columns]; rows], row: 0, column: 0, rest: Vec::new() }
    }

    fn text(&self) -> String {
        let lines: Vec<String> =
            self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect();
        lines.join("\n").trim_end().to_owned()
    }

    fn draw(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend(bytes);
        let mut place = 0;
        while place < all.len() {
            match all[place] {
                b'\x1b' => {
                    let Some(end) = all[place + 1..].iter().position(u8::is_ascii_alphabetic) else {
                        self.rest = all[place..].to_vec();
                        return;
                    };
                    let end = place + 1 + end;
                    let count = std::str::from_utf8(&all[place + 2..end]).unwrap().parse().unwrap_or(1);
                    match all[end] {
                        b'A' => self.row = self.row.saturating_sub(count),
                        b'B' => self.row = (self.row + count).min(self.lines.len() - 1),
                        b'K' => self.lines[self.row].fill(' '),
                        b'm' => {}
                        other => panic!("a sequence that this terminal lacks: {}", char::from(other)),
                    }
                    place = end;
                }
                b'\r' => self.column = 0,
                b'\n' => self.down(),
                character => {
                    if self.column == self.lines[self.row].len() {
                        self.column = 0;
                        self.down();
                    }
                    self.lines[self.row][self.column] = char::from(character);
                    self.column += 1;
                }
            }
            place += 1;
        }
    }

    fn down(&mut self) {
        if self.row + 1 < self.lines.len() {
            self.row += 1;
        } else {
            self.lines.rotate_left(1);
            self.lines[self.row].fill(' ');
        }
    }
}

/// The program behind a line of a shell, as `nohup` and people's scripts start it.
fn by_way_of(project: &Project, line: &str, arguments: &[&str]) -> Command {
    let command = project.command(arguments);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{line} exec \"$@\"")).arg("sh").arg(command.get_program()).args(command.get_args());
    shell.current_dir(project.path()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
}

/// The last run's entry.
fn last(project: &Project) -> serde_json::Value {
    project.json(&["runs", "last", "--json"])
}

#[test]
fn closing_the_terminal_stops_the_run_in_order() {
    let project = waiting("");
    let mut terminal = Terminal::start(project.command(&["run", WAITING]), 80);
    let command = started(&project);
    terminal.until("RUNNING");
    terminal.close();
    assert_eq!(terminal.end().0, Some(130));
    assert!(!is_alive(command));
    let run = last(&project);
    assert_eq!((&run["end"], &run["nodes"][0]["end"]), (&"interrupted".into(), &"interrupted".into()));
    project.write("go", "");
    assert_eq!(project.ran(&["run", WAITING]), names(&["wait"]));
    assert!(project.is_clean());
}

/// Two hang-ups, of the shell and of the system, are one.
#[test]
fn a_hang_up_never_kills() {
    let project = waiting("trap 'sleep 0.2; echo kept > kept; exit 1' TERM");
    let terminal = Terminal::start(project.command(&["run", WAITING]), 80);
    started(&project);
    let pid = terminal.child.id().to_string();
    for _ in 0..3 {
        assert!(Command::new("kill").args(["-s", "HUP", &pid]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(130));
    assert!(screen.contains("STOPPED wait"), "{screen}");
    assert_eq!(last(&project)["end"], "interrupted");
}

#[test]
fn closing_the_terminal_stops_a_training_that_goes_on_to_the_same_result() {
    let arguments = ["run", PIPELINE, "--only", "clip", "--set", "stage.clip.epochs=60"];
    let whole = Project::new();
    whole.ran(&arguments);
    let project = Project::new();
    let mut terminal = Terminal::start(project.command(&arguments), 80);
    terminal.until("epoch ");
    terminal.close();
    // Some machines are through before that.
    assert!(matches!(terminal.end().0, Some(130 | 0)));
    assert_ne!(last(&project)["end"], "killed");
    project.ran(&arguments);
    assert_eq!(project.digests(), whole.digests());
}

#[test]
fn a_run_that_ignores_the_hang_up_goes_on_without_its_terminal() {
    let project = waiting("");
    let mut terminal = Terminal::start(by_way_of(&project, "trap '' HUP;", &["run", WAITING]), 80);
    started(&project);
    terminal.close();
    // It draws in vain meanwhile.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(last(&project)["end"], "running");
    project.write("go", "");
    assert_eq!(terminal.end().0, Some(0));
    assert_eq!(last(&project)["end"], "done");
}

#[test]
fn signals_reach_a_run_whose_terminal_is_gone() {
    let project = waiting("");
    let mut terminal = Terminal::start(by_way_of(&project, "trap '' HUP;", &["run", WAITING]), 80);
    let command = started(&project);
    terminal.close();
    let pid = terminal.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert_eq!(terminal.end().0, Some(130));
    assert!(!is_alive(command));
    assert_eq!(last(&project)["end"], "interrupted");
}

#[test]
fn a_run_goes_on_whatever_happens_to_its_standard_error() {
    let (reader, pipe) = std::io::pipe().unwrap();
    drop(reader);
    // Full, closed, and a pipe that nobody reads.
    for (line, stderr) in [("exec 2>/dev/full;", None), ("exec 2>&-;", None), ("", Some(pipe))] {
        let project = Project::new();
        project.write(NINE, NINE_TEXT);
        let mut command = by_way_of(&project, line, &["run", NINE]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.map_or(Stdio::null(), Stdio::from));
        assert_eq!(command.status().unwrap().code(), Some(0), "{line}");
        let run = last(&project);
        assert_eq!((&run["end"], &run["counts"]["done"]), (&"done".into(), &9.into()), "{line}");
        let results = walkdir::WalkDir::new(project.file("results/nine")).into_iter().flatten();
        assert_eq!(results.filter(|entry| entry.file_type().is_file()).count(), 9, "{line}");
    }
}

/// The exit code and the standard error of a command whose standard output is so.
fn with_output(project: &Project, stdout: Stdio, arguments: &[&str]) -> Output {
    project.command(arguments).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn data_that_cannot_be_written_is_an_error() {
    let project = Project::after_a_run();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    project.ran(&["run", PIPELINE]);
    fs::remove_dir_all(project.file("results")).unwrap();
    for arguments in [
        &["table", PIPELINE][..],
        &["table", PIPELINE, "--format", "csv"],
        &["status", PIPELINE, "--all"],
        &["status", PIPELINE, "--json"],
        &["runs"],
        &["explain", PIPELINE, "clip"],
        &["graph", PIPELINE],
        &["schema"],
        &["completions", "bash"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
        &["run", PIPELINE],
        &["run", PIPELINE, "--json"],
    ] {
        let output = with_output(&project, full(), arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("error: could not write `standard output`"), "{arguments:?}: {stderr}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = with_output(&project, writer.into(), arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("error"), "{arguments:?}: {stderr}");
    }
    // All but the printing was done.
    assert!(project.file("results/tiny/table.md").is_file());
    assert_eq!(last(&project)["end"], "done");
}

#[test]
fn an_interrupt_leaves_no_row_behind() {
    for columns in [60, 80, 100] {
        let project = Project::new();
        let long = ["run", PIPELINE, "--only", "clip", "--set", "stage.clip.epochs=100000", "-j", "1"];
        let mut terminal = Terminal::start(project.command(&long), columns);
        terminal.until("RUNNING [");
        terminal.until("epoch ");
        // One row for the node and one for the run, below the line of the node before.
        let lines: Vec<String> = terminal.look().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(
            lines[0].contains("DONE") && lines[1].contains("clip   epoch ") && lines[2].contains("(1/2) #"),
            "{lines:#?}"
        );
        terminal.press(b"\x03");
        let (code, screen) = terminal.end();
        assert_eq!(code, Some(130));
        let words: Vec<&str> = screen.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(words[..3], ["DONE", "STOPPING", "STOPPED"], "{screen}");
        assert!(words[3..].iter().all(|word| !["RUNNING", "STOPPING", "^C"].contains(word)), "{screen}");
        assert!(screen.contains("goes on from here"), "{screen}");
    }
}

#[test]
fn an_interrupt_asks_whether_jobs_go_on() {
    for (answer, said) in [("cancel", "cancelled"), ("", "hint: `scancel 1` ends them")] {
        let project = queue::project("PENDING");
        let mut terminal = Terminal::start(queue::command(&project), 100);
        terminal.until("SUBMITTED");
        terminal.press(b"\x03");
        terminal.until("type `cancel` to end them");
        terminal.press(format!("{answer}\n").as_bytes());
        let (code, screen) = terminal.end();
        assert_eq!(code, Some(130), "{screen}");
        assert!(screen.contains(said), "{screen}");
        assert_eq!(project.file("cancelled").exists(), answer == "cancel");
    }
}

#[test]
fn what_another_run_computes_is_a_row_that_goes_away() {
    let project = waiting("");
    let mut first = project.command(&["run", WAITING]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    started(&project);
    let mut terminal = Terminal::start(project.command(&["run", WAITING]), 60);
    terminal.until("ELSEWHERE [");
    assert_eq!(terminal.look().lines().count(), 2, "{}", terminal.look());
    project.write("go", "");
    assert!(first.wait().unwrap().success());
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0));
    assert!(screen.starts_with("1 node: 0 ran, 1 cached, 0 failed"), "{screen}");
}

/// A mistake of ours while nodes run ends the run and what it has started; it would wait for them for ever.
#[test]
fn a_panic_ends_the_run_and_its_processes() {
    let project = Project::new();
    let folder = project.path().display().to_string();
    let text = format!(
        "[axes]\nname = [\"a\", \"b\"]\n[stage.wait]\nkind = \"command\"\naxes = [\"name\"]\noutputs = {{ text = \"text.txt\" }}\n\
         run = \"echo $$ > {folder}/{{name}}.new; mv {folder}/{{name}}.new {folder}/{{name}}; sleep 1000\"\n"
    );
    project.write("pipelines/panic.toml", &text);
    let pipeline = Pipeline::read(&project.file("pipelines/panic.toml"), &[]).unwrap();
    let graph = Graph::build(&pipeline, None).unwrap();
    let store = Store::open(&project.file(".maple")).unwrap();
    let devices = DeviceChoice::new(None, 2);
    let options = Options { pixel_cache: false, ..Options::new(2, 1, devices) };
    let mut seen = 0;
    let mut report = |event: &Event<'_>| {
        if matches!(event, Event::Started { .. }) {
            seen += 1;
            if seen == 2 {
                eventually("the first node starts", || project.file("a").exists() || project.file("b").exists());
                panic!("a mistake of ours");
            }
        }
    };
    let selection = graph.select(None).unwrap();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run(
            &graph,
            Wanted { nodes: &selection, results: &[] },
            &store,
            "panic",
            &options,
            &Interrupts::default(),
            &mut report,
        );
    }));
    assert!(ended.is_err());
    let process = ["a", "b"].into_iter().find(|name| project.file(name).exists()).unwrap();
    let process = project.read(process).trim().parse().unwrap();
    eventually("the command ends", || !is_alive(process));
}
