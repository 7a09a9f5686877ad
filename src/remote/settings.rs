//! What a user may set of a store that a team shares.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::Requirement;

/// `[remote]`: what commands that share results do where their options say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteSettings {
    /// As `--remote`.
    pub url: Option<String>,
    /// As `--remote-readonly`.
    pub readonly: bool,
    /// As `--remote-pixels`.
    pub pixels: bool,
    /// As `--remote-timeout`, seconds.
    pub timeout: Option<NonZeroU32>,
    /// As `--require`, several times.
    pub require: Vec<Requirement>,
}
