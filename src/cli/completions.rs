//! `maple-pipe completions`: what a shell needs to complete command lines.

use clap::Args;
use clap_complete::Shell;

use super::terminal::print;
use crate::error::Result;

/// Print the completions for a shell
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints them for `whole`, the command line.
    pub(super) fn run(self, whole: clap::Command) -> Result<()> {
        let mut script = Vec::new();
        // The library would offer hidden commands, too.
        let shown = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
        let mut command =
            clap::Command::new(env!("CARGO_PKG_NAME")).version(env!("CARGO_PKG_VERSION")).subcommands(shown);
        clap_complete::generate(self.shell, &mut command, env!("CARGO_PKG_NAME"), &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
