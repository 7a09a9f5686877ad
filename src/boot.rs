//! Which boot of which machine this is.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// One boot of one machine, by the id that Linux gives it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Boot(String);

impl Boot {
    /// The present one; none where the system does not tell.
    pub fn current() -> Option<&'static Boot> {
        static CURRENT: LazyLock<Option<Boot>> = LazyLock::new(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            Some(Boot(id.trim().to_owned()))
        });
        CURRENT.as_ref()
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.0
    }
}
