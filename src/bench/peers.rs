//! Other workflow programs that run the same DAG.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use super::child::{Measured, measure};
use crate::error::{Error, Result};

/// Another workflow program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Ninja,
    Snakemake,
    Dvc,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Ninja, Kind::Snakemake, Kind::Dvc];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Ninja => "ninja",
            Kind::Snakemake => "snakemake",
            Kind::Dvc => "dvc",
        }
    }

    /// The folder of what its nodes leave.
    pub fn output(self) -> &'static str {
        match self {
            Kind::Ninja => "out",
            Kind::Snakemake => "out-snakemake",
            Kind::Dvc => "out-dvc",
        }
    }

    /// What it keeps beside that.
    pub fn made(self) -> &'static [&'static str] {
        match self {
            Kind::Ninja => &[".ninja_log"],
            Kind::Snakemake => &[".snakemake"],
            Kind::Dvc => &[".dvc", "dvc.lock"],
        }
    }
}

/// One of them as a person names it: `ninja`, or `snakemake=venv/bin/snakemake`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    pub(super) kind: Kind,
    program: PathBuf,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let (name, program) = text.split_once('=').unwrap_or((text, text));
        let known = || Kind::ALL.map(Kind::name).join("`, `");
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| format!("`{name}` is none of `{}`", known()))?;
        // One that is named by a path is started in another folder.
        let program = if program.contains('/') { std::path::absolute(program) } else { Ok(program.into()) };
        Ok(Peer { kind, program: program.map_err(|error| error.to_string())? })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.name())
    }
}

/// What a program is asked to do with the DAG.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Run,
    Status,
    DryRun,
}

impl Peer {
    /// Whether it can be started.
    fn is_installed(&self) -> bool {
        Command::new(&self.program).arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// What it needs in the folder before its first run, beside the description of the DAG.
    pub(super) fn prepare(&self, folder: &Path) -> Result<()> {
        if self.kind == Kind::Dvc {
            measure(self.command(folder).args(["init", "--no-scm", "--quiet"]), None)?;
        }
        Ok(())
    }

    /// Measures what it does; nothing where it knows no such thing.
    ///
    /// # Errors
    /// It fails.
    pub(super) fn measure(
        &self,
        folder: &Path,
        action: Action,
        jobs: usize,
        limit: Duration,
    ) -> Result<Option<Measured>> {
        let jobs = jobs.to_string();
        let arguments: &[&str] = match (self.kind, action) {
            // It has no status but what it would do.
            (Kind::Ninja, Action::Run | Action::Status) => &["-j", &jobs],
            (Kind::Ninja, Action::DryRun) => &["-j", &jobs, "-n"],
            (Kind::Snakemake, Action::Run) => &["--cores", &jobs],
            (Kind::Snakemake, Action::DryRun) => &["--cores", &jobs, "--dry-run"],
            (Kind::Snakemake, Action::Status) => return Ok(None),
            // One node at a time is all it can.
            (Kind::Dvc, Action::Run) => &["repro"],
            (Kind::Dvc, Action::DryRun) => &["repro", "--dry"],
            (Kind::Dvc, Action::Status) => &["status"],
        };
        measure(self.command(folder).args(arguments), Some(limit)).map(Some)
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(folder);
        if self.kind == Kind::Dvc {
            command.env("DVC_NO_ANALYTICS", "1").env("DVC_SITE_CACHE_DIR", folder.join("dvc-site"));
        }
        command
    }
}

/// The peers that are installed.
///
/// # Errors
/// One that was asked for is not.
pub(super) fn installed(wanted: Option<&[Peer]>) -> Result<Vec<Peer>> {
    let Some(wanted) = wanted else {
        let ninja = Peer { kind: Kind::Ninja, program: Kind::Ninja.name().into() };
        return Ok(if ninja.is_installed() { vec![ninja] } else { Vec::new() });
    };
    match wanted.iter().find(|peer| !peer.is_installed()) {
        None => Ok(wanted.to_vec()),
        Some(peer) => {
            let package = match peer.kind {
                Kind::Ninja => "Debian calls it `ninja-build`",
                Kind::Snakemake | Kind::Dvc => "`pip install` of that name gets it",
            };
            Err(Error::hinted(
                format!("`{}` cannot be started", peer.program.display()),
                format!("{package}; `--peers {peer}=FILE` names the program"),
            ))
        }
    }
}
