//! A project in a temporary folder, and the program run in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use maple_pipe::data::world::World;
use maple_pipe::graph::Graph;
use maple_pipe::pipeline::Pipeline;
use maple_pipe::weights::Array;
use regex::Regex;
use serde_json::Value;
use snapbox::IntoData;
use tempfile::TempDir;

/// The pipeline of the project.
pub const PIPELINE: &str = "pipelines/tiny.toml";

/// A folder with a pipeline, method files, a manifest and a data set: `tests/fixtures/project`, and four classes of
/// drawn shapes in `data/shapes`.
pub struct Project {
    folder: TempDir,
}

/// What the program printed, and how it ended.
pub struct Printed {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Project {
    /// A project in which nothing has run.
    pub fn new() -> Project {
        let project = Project { folder: TempDir::new().unwrap() };
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/project"), project.path());
        project.write(".git/HEAD", "");
        let parameters = serde_json::json!({
            "dataset": "shapes", "size": 32, "classes": 4, "train": 4, "val": 1, "test": 3
        });
        World { parameters: serde_json::from_value(parameters).unwrap() }.write(&project.file("data/shapes")).unwrap();
        project
    }

    /// A project in which everything has run: a copy, in another folder, of one that all tests share.
    pub fn after_a_run() -> Project {
        static RUN: LazyLock<Project> = LazyLock::new(|| {
            let project = Project::new();
            assert_eq!(project.ran(&["run", PIPELINE]).len(), 20);
            // It names the folder that it ran in.
            fs::remove_dir_all(project.file(".maple/runs")).unwrap();
            project
        });
        RUN.copy()
    }

    /// The same project in another folder.
    pub fn copy(&self) -> Project {
        let project = Project { folder: TempDir::new().unwrap() };
        copy(self.path(), project.path());
        project
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the project.
    pub fn file(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Reads a text file.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.file(path)).unwrap()
    }

    /// Writes a text file and the folders above it.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.file(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a program that is a shell script.
    pub fn write_program(&self, path: &str, script: &str) {
        self.write(path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.file(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The `PATH` on which the programs in the project's `bin` come first.
    pub fn path_of_programs(&self) -> String {
        format!("{}:{}", self.file("bin").display(), std::env::var("PATH").unwrap())
    }

    /// Replaces a text that stands once in a file.
    #[track_caller]
    pub fn replace(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert_eq!(text.matches(from).count(), 1, "`{from}` in\n{text}");
        self.write(path, &text.replace(from, to));
    }

    /// The program in the project's folder, without settings from the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_maple-pipe"));
        let worker = program.with_file_name("maple-pipe-worker");
        // Both are of the profile that this test is of.
        let folder = program.parent().and_then(Path::file_name).unwrap().to_string_lossy();
        let profile = if folder == "debug" { "dev" } else { &folder };
        assert!(worker.is_file(), "there is no `{}`: run `cargo build --profile {profile}`", worker.display());
        let mut command = Command::new(program);
        let kept = ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"];
        let kept = kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        // Of a user's own settings, none.
        command.env_clear().envs(kept).env("MAPLE_PIPE_CONFIG", "");
        // Whatever cards a machine has, transcripts are those of a processor, unless a card is asked for.
        if !std::env::var("MAPLE_PIPE_TEST_DEVICE").is_ok_and(|device| device.starts_with("cuda")) {
            command.env("CUDA_VISIBLE_DEVICES", "");
        }
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// The same with a worker that is this shell script, into which `$real` puts the real one.
    pub fn command_with_worker(&self, script: &str, arguments: &[&str]) -> Command {
        let folder = self.file("programs");
        fs::create_dir_all(&folder).unwrap();
        let real = Path::new(env!("CARGO_BIN_EXE_maple-pipe"));
        let program = folder.join("maple-pipe");
        fs::copy(real, &program).unwrap();
        let real = real.with_file_name("maple-pipe-worker");
        self.write_program("programs/maple-pipe-worker", &format!("real='{}'\n{script}", real.display()));
        let command = self.command(arguments);
        let mut other = Command::new(program);
        other.args(arguments).current_dir(self.path()).stdin(Stdio::null()).env_clear();
        other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        other
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Printed {
        self.printed(self.command(arguments).output().unwrap())
    }

    /// What a finished program printed. What differs from run to run and from processor to processor has a name
    /// instead: the project's folder, times, digests, accuracies, losses, and the table, which must be the one in
    /// `results/`.
    pub fn printed(&self, output: Output) -> Printed {
        let folders = fs::read_dir(self.file("results")).into_iter().flatten().flatten();
        let folders = folders.filter(|folder| folder.file_name().to_string_lossy().starts_with("tiny"));
        let tables: Vec<String> =
            folders.filter_map(|folder| fs::read_to_string(folder.path().join("table.md")).ok()).collect();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            self.normalise(&tables.iter().fold(text, |text, table| text.replace(table, "[TABLE]\n")))
        };
        Printed { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn normalise(&self, text: &str) -> String {
        static NAMES: LazyLock<[(Regex, &str); 15]> = LazyLock::new(|| {
            [
                (r"\b\d{8}T\d{6}Z-[0-9a-f]{6}\b", "[RUN]"),
                (r"(?m)   (\d+ms|\d+\.\ds|\d+m \d\ds)$", "   [TIME]"),
                (r"\b\d+(\.\d)? (B|kB|MB)\b", "[SIZE]"),
                // Equal results are one artifact, and which are equal differs, too.
                (r"\b\d+ artifacts,", "[COUNT] artifacts,"),
                (r"(?m)^host        .*$", "host        [HOST]"),
                (r"maple-pipe \d+\.\d+\.\d+", "maple-pipe [VERSION]"),
                (r#"\bbuild [0-9a-f]{16}, .*?, host [^\s:,;"]+"#, "[MAKER]"),
                (r"\bbuild ([0-9a-f]{16}|`[0-9a-f]{16}`)", "build [BUILD]"),
                (r"\[ *\d+\.\ds\]", "[TIME]"),
                (r"\b(in|about) (\d+ms|\d+\.\ds|\d+m \d\ds)", "$1 [TIME]"),
                (r"(?m)\b(?:loss|accuracy) \d+\.\d+(, .* skipped)?$", "[NUMBER]$1"),
                (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[DATE]"),
                (r"\b([0-9a-f]{64}|[0-9a-f]{12})\b", "[DIGEST]"),
                (r"/[0-9a-f]{2}/\[DIGEST\]", "/[DIGEST]"),
                (r"\brun-\d+-\d+\b", "run-[ID]"),
            ]
            .map(|(pattern, name)| (Regex::new(pattern).unwrap(), name))
        });
        let text = text.replace(&self.path().display().to_string(), "[PROJECT]");
        NAMES.iter().fold(text, |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
    }

    /// Runs the program and compares all that it prints.
    #[track_caller]
    pub fn prints(&self, arguments: &[&str], expected: impl IntoData) {
        self.run(arguments).is(expected);
    }

    /// The nodes that a successful run executed.
    #[track_caller]
    pub fn ran(&self, arguments: &[&str]) -> BTreeSet<String> {
        let printed = self.run(arguments);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        printed.done()
    }

    /// The one JSON value that the program prints when it succeeds.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The digest of every output of every node, `node:output`.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let mut digests = BTreeMap::new();
        for (node, record) in self.records() {
            for (output, artifact) in record["outputs"].as_object().unwrap() {
                digests.insert(format!("{node}:{output}"), artifact["digest"].as_str().unwrap().to_owned());
            }
        }
        digests
    }

    /// The record of every node of every pipeline that has run, as far as the store still has it.
    pub fn records(&self) -> BTreeMap<String, Value> {
        let json = |path: &Path| -> Value { serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
        let states = fs::read_dir(self.file(".maple/state")).unwrap().map(|state| json(&state.unwrap().path()));
        let keys = states.flat_map(|state| state.as_object().unwrap().clone());
        let files = keys.map(|(node, key)| (node, self.record_file(key.as_str().unwrap())));
        files.filter(|(_, file)| file.exists()).map(|(node, file)| (node, json(&file))).collect()
    }

    /// Nothing is left of runs that died.
    pub fn is_clean(&self) -> bool {
        let below = |folder: &str, depth: usize| {
            walkdir::WalkDir::new(self.file(folder)).min_depth(depth).into_iter().flatten()
        };
        let is_temporary = |entry: walkdir::DirEntry| entry.file_name().to_string_lossy().starts_with(".new-");
        [".maple/work", ".maple/claims", ".maple/partial"].iter().all(|folder| below(folder, 1).next().is_none())
            && !below(".maple", 2).any(is_temporary)
    }

    /// The file of the record with this key.
    pub fn record_file(&self, key: &str) -> PathBuf {
        self.file(&format!(".maple/records/{}/{key}.json", &key[..2]))
    }

    /// The file of a node's output.
    pub fn artifact(&self, node: &str, output: &str) -> PathBuf {
        let digest = &self.digests()[&format!("{node}:{output}")];
        self.file(&format!(".maple/artifacts/{}/{digest}", &digest[..2]))
    }
}

impl Printed {
    /// Compares everything.
    #[track_caller]
    pub fn is(&self, expected: impl IntoData) {
        let mut text = String::new();
        for (name, printed) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !printed.is_empty() {
                text += &format!("<{name}>\n{printed}");
            }
        }
        let code = self.code.map_or("killed".to_owned(), |code| code.to_string());
        text += &format!("<exit code {code}>\n");
        let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV).normalize_paths(false);
        assert.eq(text, expected.into_data().raw());
    }

    /// The nodes on the lines that say DONE.
    pub fn done_so_far(&self) -> BTreeSet<String> {
        static DONE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^ +DONE .*\) (\S+)").unwrap());
        DONE.captures_iter(&self.stderr).map(|line| line[1].to_owned()).collect()
    }

    /// Those nodes; as many as the last line counts.
    #[track_caller]
    pub fn done(&self) -> BTreeSet<String> {
        let done = self.done_so_far();
        assert!(self.stderr.contains(&format!(": {} ran, ", done.len())), "{}", self.stderr);
        done
    }
}

/// Lines of a shell script in place of a worker: they take the next request of the run, and put the task's file into `$file`.
pub const TAKE_TASK: &str =
    "read -r request || exit 0; file=$(printf %s \"$request\" | sed 's/.*\"file\":\"\\([^\"]*\\)\".*/\\1/')\n";

/// The same command without root's right to pass over the permissions of files.
pub fn bound_by_permissions(command: Command) -> Command {
    if !rustix::process::geteuid().is_root() {
        return command;
    }
    let mut bound = Command::new("setpriv");
    bound.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    bound.arg(command.get_program()).args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    bound.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bound
}

/// The nodes of a pipeline that has no mistake.
#[track_caller]
pub fn graph(pipeline: &Path) -> Graph {
    let pipeline = Pipeline::read(pipeline, &[]).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    Graph::build(&pipeline, None).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]))
}

/// A set of names.
pub fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Changes one byte in the middle of a file, not its size.
pub fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Puts these bytes at the start of a tensor's values.
pub fn overwrite(tensor: &mut Array, start: &[u8]) {
    let mut values = tensor.bytes.to_vec();
    values[..start.len()].copy_from_slice(start);
    tensor.bytes = values.into();
}

/// Copies a folder with all in it.
pub fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
