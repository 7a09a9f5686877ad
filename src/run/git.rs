//! What is checked out where a pipeline lies, asked of `git`, if there is one.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::store::Commit;

/// A question to `git`, which answers in its own time.
#[derive(Debug)]
pub(super) struct Question(Option<Child>);

impl Question {
    /// Asks which commit is checked out in the repository that holds `folder`; nothing where there is none.
    pub fn new(folder: &Path) -> Question {
        if !folder.ancestors().any(|folder| folder.join(".git").exists()) {
            return Question(None);
        }
        let child = Command::new("git")
            .args(["status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules"])
            // Only looks: `git` would keep what it finds in its index, if it may.
            .env("GIT_OPTIONAL_LOCKS", "0")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Question(child.ok())
    }

    /// Waits for the answer; none without `git`, a repository and a commit.
    pub fn answer(self) -> Option<Commit> {
        let output = self.0?.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let id = text.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
        let dirty = text.lines().any(|line| !line.starts_with('#'));
        (id != "(initial)").then(|| Commit { id: id.to_owned(), dirty })
    }
}
