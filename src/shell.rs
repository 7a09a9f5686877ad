//! The shell that runs texts, and what of a text needs none.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, OnceLock};

use rustix::fs::{Access, access};

use crate::error::{Error, Result};

/// POSIX shells, the first one that can do what is asked is taken.
const SHELLS: [&[&str]; 2] = [&["/bin/sh"], &["bash", "--posix"]];
/// What a shell is asked: to end at the first command that fails, and to take a pipeline for failed when any part of it did.
const STRICT: [&str; 4] = ["-e", "-o", "pipefail", "-c"];

/// A word as a shell reads it.
pub fn word(word: &str) -> Cow<'_, str> {
    if is_plain(word) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

/// Whether no character of a word means anything to a shell.
fn is_plain(word: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "%+,-./:=@_".contains(letter);
    !word.is_empty() && word.chars().all(plain)
}

/// What a shell would do with a text, in a folder, with `path` as `PATH`; what it prints goes to `output`. Where that is only to
/// start one program, the program is started without a shell, as GNU make does, too: a shell takes as long to start as a small
/// program.
///
/// # Errors
/// No shell is there that can run it.
pub fn command(text: &str, folder: &Path, path: &OsStr, output: File) -> Result<Command> {
    let alone = Simple::of(text).and_then(|simple| Some((simple.find(path)?, simple.redirected(folder)?, simple)));
    let (mut command, output) = match alone {
        Some((program, redirected, simple)) => {
            let mut command = Command::new(program);
            command.arg0(simple.program).args(simple.arguments);
            (command, redirected.unwrap_or(output))
        }
        None => (in_shell(text)?, output),
    };
    command.current_dir(folder).stdout(output);
    Ok(command)
}

/// Without a pipe any shell does the same, and `bash` takes twice as long to start as most.
fn in_shell(text: &str) -> Result<Command> {
    let (shell, options) = if text.contains('|') { (strict()?, &STRICT[..]) } else { (SHELLS[0], &["-e", "-c"][..]) };
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(options).arg(text);
    Ok(command)
}

/// The shell, looked for once. Not every `/bin/sh` knows `pipefail`; one that does not would take half a result for whole.
fn strict() -> Result<&'static [&'static str]> {
    static SHELL: OnceLock<Option<&[&str]>> = OnceLock::new();
    let can = |shell: &&[&str]| {
        let mut process = Command::new(shell[0]);
        process.args(&shell[1..]).args(STRICT).arg(":");
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        process.status().is_ok_and(|status| status.success())
    };
    SHELL.get_or_init(|| SHELLS.into_iter().find(can)).ok_or_else(|| {
        Error::hinted(
            "no shell can run it: `/bin/sh` does not know `-o pipefail`, and there is no `bash`",
            "install `bash`, or give `run` as a list of words",
        )
    })
}

/// The first program of a name in the folders of `path`; those that are not absolute are passed over.
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let is_program = |file: &PathBuf| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    folders.map(|folder| folder.join(name)).find(is_program)
}

/// A text in which a shell finds one program and its arguments, and maybe `> FILE` behind them, and nothing to work out.
#[derive(Debug, PartialEq)]
struct Simple<'a> {
    program: &'a str,
    arguments: Vec<&'a str>,
    output: Option<&'a str>,
}

/// What shells know without a program, or take for a part of their language.
const OF_SHELLS: &str = ". : alias autoload bg bind break builtin bye caller case cd chdir command compgen complete compopt \
    continue coproc declare dirs disown do done echo elif else enable esac eval exec exit export false fc fg fi for function \
    getopts hash help hist history if in jobs kill let local login logout mapfile newgrp popd print printf pushd pwd \
    read readarray readonly return select set shift shopt source stop suspend test then time times trap true type typeset \
    ulimit umask unalias unset until wait whence while";

impl<'a> Simple<'a> {
    fn of(text: &'a str) -> Option<Simple<'a>> {
        let mut words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        let mut output = None;
        if let [.., ">", file] = words[..] {
            output = Some(file);
            words.truncate(words.len() - 2);
        }
        let (&program, arguments) = words.split_first()?;
        let is_name = !program.contains(['/', '=']) && !OF_SHELLS.split_whitespace().any(|name| name == program);
        let all_plain = words.iter().chain(&output).all(|word| is_plain(word));
        (is_name && all_plain).then(|| Simple { program, arguments: arguments.to_vec(), output })
    }

    /// The program; nothing where only a shell knows which is meant, or how to say that there is none.
    fn find(&self, path: &OsStr) -> Option<PathBuf> {
        if *HAS_FUNCTIONS || !std::env::split_paths(path).all(|folder| folder.is_absolute()) {
            return None;
        }
        find_program(self.program, path).filter(|program| starts_by_itself(program))
    }

    /// The file that the text says what is printed goes to, if it says so; nothing where it cannot be made, which a shell reports.
    fn redirected(&self, folder: &Path) -> Option<Option<File>> {
        self.output.map(|output| File::create(folder.join(output))).transpose().ok()
    }
}

/// Whether the environment has functions, which `bash` takes from there, under the names of programs, too.
static HAS_FUNCTIONS: LazyLock<bool> = LazyLock::new(|| {
    let is_function = |(name, _): (OsString, _)| name.as_encoded_bytes().starts_with(b"BASH_FUNC_");
    std::env::vars_os().any(is_function)
});

/// Whether the system can start a file. A shell takes others for texts of its own.
fn starts_by_itself(program: &Path) -> bool {
    let mut start = [0; 4];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && (start == *b"\x7fELF" || start.starts_with(b"#!"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        assert_eq!(word("runs/a-1.toml"), "runs/a-1.toml");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word(""), "''");
    }

    #[test]
    fn what_needs_no_shell() {
        let simple = |text| Simple::of(text).map(|simple| (simple.program, simple.arguments, simple.output));
        assert_eq!(simple(" cat  a b/c\t"), Some(("cat", vec!["a", "b/c"], None)));
        assert_eq!(simple("sort -k 2,2 x > out/y"), Some(("sort", vec!["-k", "2,2", "x"], Some("out/y"))));
        for text in [
            "",
            " ",
            "> x",
            "cat a >b",
            "cat a >> b",
            "cat > a b",
            "cat < a > b",
            "cat a > $b",
            "cat 'a'",
            "cat a; cat b",
            "cat a\ncat b",
            "cat a | sort",
            "cat a &",
            "a=b cat",
            "echo a",
            "true",
            "cd x",
            "./tool",
            "/bin/cat a",
            "cat *",
            "cat ~",
            "cat {a,b}",
            "! cat",
            "cat #",
            "cat a > b > c",
            "cat a > > b",
        ] {
            assert_eq!(simple(text), None, "{text}");
        }
    }

    /// How a command ends, what it prints, and what files it leaves.
    fn outcome(mut command: Command, folder: &Path) -> (Option<i32>, String, BTreeMap<String, String>) {
        let status = command.stdin(Stdio::null()).status().unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let files = files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(&path)));
        (status.code(), read(&folder.join("folder/printed")), files.collect())
    }

    #[test]
    fn a_program_alone_does_what_it_does_in_a_shell() {
        let bin = tempfile::tempdir().unwrap();
        let programs = [
            ("tool", "#!/bin/sh\necho \"${0##*/}\" \"$@\"; echo wrong >&2; exit 3\n"),
            ("where", "#!/bin/sh\nls -d a b; test \"$(readlink -f .)\" = \"$(readlink -f \"$PWD\")\"\n"),
            ("text", "echo no first line $1\n"),
            ("nothing", ""),
            ("forbidden", "#!/bin/sh\n"),
            // Never what a shell means by it.
            ("echo", "#!/bin/sh\nexit 9\n"),
        ];
        for (name, text) in programs {
            let path = bin.path().join(name);
            std::fs::write(&path, text).unwrap();
            let mode = if name == "forbidden" { 0o644 } else { 0o755 };
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([bin.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let run = |text: &str, in_a_shell: bool| {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            std::fs::write(at("a"), "1\n").unwrap();
            std::fs::write(at("b"), "2\n").unwrap();
            std::fs::create_dir(at("folder")).unwrap();
            let printed = File::create(at("folder/printed")).unwrap();
            let errors = printed.try_clone().unwrap();
            let mut command = if in_a_shell {
                let mut command = in_shell(text).unwrap();
                command.current_dir(folder.path()).stdout(printed);
                command
            } else {
                command(text, folder.path(), &path, printed).unwrap()
            };
            command.stderr(errors).env("PATH", &path).env("PWD", folder.path());
            (command.get_program() != "/bin/sh", outcome(command, folder.path()))
        };
        let alone =
            ["cat a b > c", "cat a absent > c", "cp a c", "tool 1 2", "tool x > c", "where", "ls -a > folder/x"];
        let in_a_shell = [
            "text 1",
            "nothing",
            "forbidden",
            "no-such-program",
            "cat a > none/c",
            "cat a > folder",
            "echo a > c",
            "false",
        ];
        for text in alone.into_iter().chain(in_a_shell) {
            let (is_alone, outcome) = run(text, false);
            assert_eq!(is_alone, alone.contains(&text), "{text}");
            assert_eq!(outcome, run(text, true).1, "{text}");
        }
    }
}
