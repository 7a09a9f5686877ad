//! `command`: runs any program in a scratch folder. It finds its inputs as `inputs/NAME`, its parameters in
//! `parameters.json`, and leaves its outputs at the paths that it declares.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::device::VISIBLE_CARDS;
use crate::error::{Error, Result};
use crate::files::{Links, bad_part_of_path, create_folder, create_parent};
use crate::kind::{Given, INPUTS, Kind, PARAMETERS, PathPort, Place, Port, Program, Work};
use crate::parallel;
use crate::shell;
use crate::store::{ArtifactKind, Output};
use crate::task::Task;

/// Runs any program.
pub static KIND: Kind = Kind {
    inputs: &[("inputs", "What the command finds as `inputs/NAME`.")],
    is_open: true,
    table_parameters: &["parameters"],
    ..Kind::of::<CommandStage>("command", "Runs any program.", 2)
};

/// The input that holds the programs.
const PROGRAMS: &str = "programs";
/// Parameters of a `command` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandStage {
    /// The program and its arguments; or one string, which a shell runs with `-e -o pipefail`.
    pub run: Words,
    /// What it leaves: names with paths in the scratch folder. A path that ends in `/` is a folder's.
    #[schemars(with = "BTreeMap<String, String>")]
    pub outputs: Outputs,
    /// Environment variables beside those that `maple-pipe` was started with; only these are part of the key.
    #[serde(default)]
    pub environment: BTreeMap<String, Word>,
    /// Any values; the program finds them in `parameters.json`.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
    /// Programs on which the result depends, e.g. `["python3"]`: each is looked for in `PATH`, and is an input
    /// `programs/NAME`, so that another version runs the command again.
    #[serde(default, skip_serializing)]
    pub programs: BTreeSet<String>,
    /// Whether it computes on a device of the run: it waits for one, and `CUDA_VISIBLE_DEVICES` names that card alone, or none
    /// where it gets the processor. Not part of the key.
    #[serde(default, skip_serializing)]
    pub device: bool,
}

/// What a `command` stage runs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Words {
    /// A program and its arguments.
    Program(Vec<Word>),
    /// A text for the shell.
    Shell(String),
}

/// A string; numbers and booleans are written as such, so that `"{seed}"` is one.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("type" = ["string", "number", "boolean"]))]
pub struct Word(String);

/// Names with paths.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Outputs(Vec<Output>);

impl From<BTreeMap<String, String>> for Outputs {
    fn from(paths: BTreeMap<String, String>) -> Outputs {
        let outputs = paths.into_iter().map(|(name, path)| match path.strip_suffix('/') {
            Some(folder) => Output { name: name.into(), path: folder.to_owned().into(), kind: ArtifactKind::Folder },
            None => Output { name: name.into(), path: path.into(), kind: ArtifactKind::File },
        });
        Outputs(outputs.collect())
    }
}

impl From<Outputs> for BTreeMap<String, String> {
    fn from(outputs: Outputs) -> BTreeMap<String, String> {
        let written = |output: Output| match output.kind {
            ArtifactKind::File => (output.name.into(), output.path.into()),
            ArtifactKind::Folder => (output.name.into(), format!("{}/", output.path)),
        };
        outputs.0.into_iter().map(written).collect()
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        struct WordsVisitor;
        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = Words;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of words, or a string for the shell")
            }

            fn visit_str<E>(self, text: &str) -> Result<Words, E> {
                Ok(Words::Shell(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Words, A::Error> {
                let mut program = Vec::new();
                while let Some(word) = words.next_element()? {
                    program.push(word);
                }
                Ok(Words::Program(program))
            }
        }
        deserializer.deserialize_any(WordsVisitor)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
        struct WordVisitor;
        impl Visitor<'_> for WordVisitor {
            type Value = Word;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string, a number or a boolean")
            }

            fn visit_str<E>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }
        }
        deserializer.deserialize_any(WordVisitor)
    }
}

impl Work for CommandStage {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn outputs(&self) -> &[Output] {
        &self.outputs.0
    }

    fn place(&self) -> Place<'_> {
        Place::Program(self)
    }

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        if matches!(&self.run, Words::Program(words) if words.is_empty()) {
            return Err(Error::hinted("`run` names no program", "for example `run = [\"python\", \"inputs/script\"]`")
                .about("run"));
        }
        self.check_outputs()?;
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.0.contains('\0') {
                let message = format!("`{name}` with this value cannot be a variable of the environment");
                return Err(Error::hinted(
                    message,
                    "no name is empty or holds `=`, and nothing holds a null character",
                )
                .about(format!("environment.{name}")));
            }
        }
        let programs = self.programs.iter().map(|name| {
            let path = PathPort::Program(self.find(name)?);
            Ok(Port::anything(format!("{PROGRAMS}/{name}")).or_path(path))
        });
        if !self.programs.is_empty() && given.has(PROGRAMS) {
            return Err(Error::hinted(
                format!("`{PROGRAMS}` cannot be an input's name, too"),
                "the command finds its programs as `inputs/programs/NAME`: give the input another name",
            )
            .about(PROGRAMS));
        }
        given.names().map(|name| Ok(Port::anything(name.to_owned()))).chain(programs).collect()
    }
}

impl CommandStage {
    /// The `PATH` that the command is started with.
    fn path(&self) -> OsString {
        let own = self.environment.get("PATH").map(|path| OsString::from(&path.0));
        own.or_else(|| std::env::var_os("PATH")).unwrap_or_default()
    }

    /// Where the command finds a program.
    fn find(&self, name: &str) -> Result<PathBuf> {
        let missing = |what: String, hint: &str| {
            Error::hinted(format!("`{PROGRAMS}` names `{name}`, {what}"), hint).about(PROGRAMS)
        };
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(missing("which is no name of a program".into(), "a program of your own is an input: its path"));
        }
        shell::find_program(name, &self.path()).ok_or_else(|| {
            missing("which is in no folder of `PATH`".into(), "install it, or take it out of `programs`")
        })
    }

    /// Every output has a place of its own in the scratch folder.
    fn check_outputs(&self) -> Result<()> {
        for (place, Output { name, path, .. }) in self.outputs.0.iter().enumerate() {
            if let Some(why) = bad_part_of_path(name, "") {
                let message =
                    format!("`{name}` cannot be the name of an output, which is part of names of files: {why}");
                return Err(Error::hinted(message, "a name is for example `metrics`").about(format!("outputs.{name}")));
            }
            let path = Path::new(&**path);
            let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
            if path.as_os_str().is_empty() || !stays {
                return Err(Error::hinted(
                    format!("`outputs.{name}` must be a path below the folder that the command starts in"),
                    "for example `metrics.json`, or `model/` for a folder",
                )
                .about(format!("outputs.{name}")));
            }
            if [INPUTS, PARAMETERS].iter().any(|taken| path.starts_with(taken)) {
                return Err(Error::hinted(
                    format!("`outputs.{name}` lies where the command finds its inputs and parameters"),
                    format!("`{INPUTS}` and `{PARAMETERS}` are taken: choose another path"),
                )
                .about(format!("outputs.{name}")));
            }
            let others = self.outputs.0.iter().enumerate().filter(|(other, _)| *other != place);
            for (_, other) in others {
                if path.starts_with(&*other.path) {
                    return Err(Error::hinted(
                        format!("`outputs.{name}` lies in `{}`, which is the output `{}`", other.path, other.name),
                        "give every output a path of its own",
                    )
                    .about(format!("outputs.{name}")));
                }
            }
        }
        Ok(())
    }
}

impl Program for CommandStage {
    fn process(&self, task: &Task, output: File, errors: File) -> Result<process::Command> {
        // What an earlier command found there must not show.
        if task.inputs.is_empty() {
            let _ = std::fs::remove_dir(task.scratch.join(INPUTS));
        }
        let parameters = task.scratch.join(PARAMETERS);
        if self.parameters.is_empty() {
            let _ = std::fs::remove_file(&parameters);
        } else {
            let text = serde_json::to_string(&self.parameters);
            let text = text.map_err(|error| Error::format(&parameters, "JSON", error))? + "\n";
            write_over(&parameters, text.as_bytes()).map_err(Error::io("write", &parameters))?;
        }
        let links = Links::beside(&task.scratch);
        let lay_out = |name: &&String| {
            let link = task.scratch.join(INPUTS).join(name);
            create_parent(&link)?;
            links.lead(&link, &task.one(name).path).map_err(Error::io("link the input", &link))
        };
        let names: Vec<&String> = task.inputs.keys().collect();
        parallel::map(&names, lay_out).into_iter().collect::<Result<()>>()?;
        for output in self.outputs() {
            create_parent(&task.output(&output.name))?;
        }
        create_folder(&task.partial)?;
        let mut process = match &self.run {
            Words::Shell(text) => shell::command(text, &task.scratch, &self.path(), output)?,
            Words::Program(words) => {
                let mut words = words.iter().map(|word| &word.0);
                let mut process = process::Command::new(words.next().expect("`ports` refuses an empty list"));
                process.args(words).current_dir(&task.scratch).stdout(output);
                process
            }
        };
        process
            .stderr(errors)
            // It still names where we are, and programs believe it.
            .env("PWD", &task.scratch)
            .env("MAPLE_PARTIAL", &task.partial)
            .env("MAPLE_THREADS", task.threads.to_string())
            .envs(self.environment.iter().map(|(name, value)| (name, &value.0)));
        if self.device {
            process.env(VISIBLE_CARDS, task.device.visible());
        }
        Ok(process)
    }

    fn needs_device(&self) -> bool {
        self.device
    }

    /// Every declared output is there, as a file or folder as declared, without links: what they lead to is not the
    /// command's.
    fn check(&self, task: &Task) -> Result<()> {
        for output in self.outputs() {
            let (name, path) = (&output.name, task.output(&output.name));
            let Ok(metadata) = path.symlink_metadata() else {
                return Err(Error::hinted(
                    format!("its command left no `{}`, its output `{name}`", output.path),
                    "paths of outputs start from the folder that the command starts in",
                ));
            };
            let links = walkdir::WalkDir::new(&path).into_iter().filter_map(Result::ok);
            if let Some(link) = links.into_iter().find(|entry| entry.path_is_symlink()) {
                let link = link.path().strip_prefix(&task.scratch).unwrap_or(link.path());
                return Err(Error::hinted(
                    format!("its output `{name}` has a link, `{}`", link.display()),
                    "copy what the link leads to, e.g. with `cp -L`",
                ));
            }
            let (is_right, right) = match output.kind {
                ArtifactKind::File => (metadata.is_file(), "a file"),
                ArtifactKind::Folder => (metadata.is_dir(), "a folder"),
            };
            let wrong = match metadata.file_type() {
                kind if kind.is_file() => "a file",
                kind if kind.is_dir() => "a folder",
                _ => "neither a file nor a folder",
            };
            if !is_right {
                return Err(Error::hinted(
                    format!("its output `{name}` should be {right}, but `{}` is {wrong}", output.path),
                    "a path in `outputs` that ends in `/` is a folder's, any other a file's",
                ));
            }
        }
        Ok(())
    }
}

/// Writes a file, over another one if there is one. That is not cut to nothing first, which makes some file systems write the
/// new content to the disk at once.
fn write_over(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
    file.write_all(bytes)?;
    // To set a length that a file has already takes twice as long as to write a few bytes.
    if file.metadata()?.len() == bytes.len() as u64 { Ok(()) } else { file.set_len(bytes.len() as u64) }
}
