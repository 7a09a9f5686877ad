//! What a remote is made of: objects by their paths.

use std::fmt::Debug;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// Objects by their paths, such as those of a bucket.
pub trait Objects: Debug + Send + Sync {
    /// Hands the content of an object of at most `most` bytes to `take`, piece by piece; none where it is absent.
    ///
    /// # Errors
    /// It cannot be read, is longer or cut, or `take` fails.
    fn read(
        &self,
        path: &str,
        most: u64,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Option<Object>, Fault>;

    /// Writes an object, in place of the one at its path. Whoever reads sees all of it or nothing.
    ///
    /// # Errors
    /// It cannot be written.
    fn write(&self, path: &str, content: Bytes) -> Result<(), Fault>;

    /// Looks at an object; none where it is absent.
    ///
    /// # Errors
    /// The answer cannot be had.
    fn look(&self, path: &str) -> Result<Option<Object>, Fault>;

    /// Every object below a folder.
    ///
    /// # Errors
    /// They cannot be listed.
    fn list(&self, folder: &str) -> Result<Vec<Object>, Fault>;

    /// Removes an object. That it is gone is no error.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, path: &str) -> Result<(), Fault>;
}

/// What is known of an object without its content.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Object {
    /// Its path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was written, by the remote's clock; the beginning of 1970 where it does not tell.
    pub modified: SystemTime,
}

impl Object {
    /// How long ago it was written. One of a clock that is ahead, or of no time, is new: it is neither sent again nor removed.
    pub fn age(&self) -> Duration {
        if self.modified == SystemTime::UNIX_EPOCH {
            Duration::ZERO
        } else {
            self.modified.elapsed().unwrap_or_default()
        }
    }
}

/// Why something could not be done with an object. The text goes behind the remote's name, as in "it answers `503`".
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The remote as a whole is of no use now: it does not answer, or refuses.
    Remote(String),
    /// This object is cut, too long, or not what it should be. Others may be whole.
    Object(String),
    /// What came could not be kept on this machine.
    Here(String),
    /// The user stopped it.
    Stopped,
}
