//! What every command takes that shares results with others.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::project::number;
use super::terminal::{bar, say, warning_word};
use crate::error::{Error, Result};
use crate::remote::{Remote, RemoteSettings, Required, Requirement, Trouble, Usage};
use crate::watch::{TICK, watch};

/// How a store that a team shares is used.
#[derive(Args, Debug, Default)]
pub(super) struct RemoteArguments {
    /// A store that a team shares, e.g. `s3://bucket/maple` or `file:///mnt/team/maple`, empty for none; results are pulled
    /// from it before nodes run, and sent to it. Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*)
    #[arg(long, value_name = "URL", env = "MAPLE_REMOTE", hide_env_values = true)]
    remote: Option<String>,
    /// Send nothing to the remote
    #[arg(long, env = "MAPLE_REMOTE_READONLY", value_parser = clap::builder::FalseyValueParser::new())]
    remote_readonly: bool,
    /// Share prepared pixels, too
    #[arg(long)]
    remote_pixels: bool,
    /// How many seconds the remote may be silent: 20 by default
    #[arg(long, value_name = "SECONDS", env = "MAPLE_REMOTE_TIMEOUT", value_parser = number(1..=3600))]
    remote_timeout: Option<u32>,
    /// Pull only results of this `build`, this `libtorch`, or a kind of processor or card, `kind=H100`; each of several kinds
    /// will do
    #[arg(long, value_name = "WHAT")]
    require: Vec<Requirement>,
}

impl RemoteArguments {
    /// The remote, where the options name one, or else the settings.
    pub(super) fn open(&self, settings: &RemoteSettings) -> Result<Option<Arc<Remote>>> {
        let address = self.remote.as_ref().or(settings.url.as_ref()).filter(|address| !address.is_empty());
        let seconds = self.remote_timeout.or(settings.timeout.map(NonZeroU32::get)).unwrap_or(20);
        let required = if self.require.is_empty() { &settings.require } else { &self.require };
        let usage = Usage {
            readonly: self.remote_readonly || settings.readonly,
            pixels: self.remote_pixels || settings.pixels,
            required: Required(required.clone()),
            patience: Duration::from_secs(seconds.into()),
        };
        address.map(|address| Remote::open(address, usage).map(Arc::new)).transpose()
    }

    /// The remote, for a command that is for it alone.
    pub(super) fn must_open(&self, settings: &RemoteSettings) -> Result<Arc<Remote>> {
        self.open(settings)?.ok_or_else(|| {
            let hint = "name one: `--remote URL`, `MAPLE_REMOTE` in the environment, or `url` below `[remote]` in the settings";
            Error::hinted("no remote is named", hint)
        })
    }
}

/// Does some work with a remote, and shows on a terminal how far it is, if that takes long.
pub(super) fn sharing<T: Send>(remote: &Remote, work: impl FnOnce() -> T + Send) -> T {
    let bar = bar("{msg}");
    let done = watch(TICK, &mut || bar.set_message(remote.traffic().to_string()), work);
    bar.finish_and_clear();
    done
}

/// Says what is amiss with a remote, where that ends nothing.
pub(super) fn warn_of(remote: &Remote) {
    if let Some(Trouble { message, hint }) = remote.trouble() {
        say(&format!("{}: {message}", warning_word()));
        say(&format!("hint: {hint}"));
    }
}
