//! The store and the folder of results: whether they can be written, and what room they have.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use super::Finding;
use crate::store::{FORMAT, Store};
use crate::text::bytes;

/// Less room than this is worth a warning.
const LITTLE: u64 = 2 << 30;

/// The store: its place, format, file system, room, and who uses it.
pub fn store(store: &Store) -> Finding {
    let subject = "store";
    let root = store.root();
    let existing = existing(root);
    let format = store.format().ok().flatten().unwrap_or(FORMAT);
    let room = room(existing);
    let kind = file_system(existing);
    let users = users(&root.join("lock"));
    let is_there = if root.is_dir() { "" } else { ", to be made" };
    let free = room.map_or_else(String::new, |room| format!(", {} free", bytes(room)));
    let who = match users.as_slice() {
        [] => "nobody uses it".to_owned(),
        users => format!("in use by {}", users.join(", ")),
    };
    let on = kind.as_ref().map_or_else(String::new, |kind| format!(" on {kind}"));
    let text = format!("`{}`{is_there}, format {format}{on}{free}, {who}", root.display());
    let details = json!({
        "folder": root, "format": format, "file_system": kind, "free": room, "users": users, "exists": root.is_dir(),
    });
    let finding = if !is_writable(existing) {
        let hint =
            "name another with `--store`, or get the right to write there: results can be read, and nothing can run";
        Finding::missing(subject, format!("{text}; it cannot be written"), hint)
    } else if room.is_some_and(|room| room < LITTLE) {
        Finding::warning(subject, text, "`maple-pipe gc` removes what nobody needs; `--store` names another place")
    } else {
        Finding::ok(subject, text)
    };
    finding.details(details)
}

/// Where tables are written.
pub fn results(folder: &Path) -> Finding {
    let text = format!("`{}`", folder.display());
    let details = json!({ "folder": folder });
    if is_writable(existing(folder)) {
        Finding::ok("results", text).details(details)
    } else {
        let text = format!("{text} cannot be written");
        Finding::missing("results", text, "name another with `run --results FOLDER`").details(details)
    }
}

/// The nearest folder at or above a path that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"))
}

/// Whether a file can be made in a folder: the only answer that is right on every file system.
fn is_writable(folder: &Path) -> bool {
    tempfile::Builder::new().prefix(".maple-pipe-").tempfile_in(folder).is_ok()
}

/// Bytes that a user may still write in a folder.
pub(super) fn room(folder: &Path) -> Option<u64> {
    crate::files::room(existing(folder))
}

/// The kind of file system that a folder lies on, e.g. `ext4` or `nfs4`, from the longest place of `/proc/self/mounts` above it.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        // Spaces are written in octal digits.
        let place = place.replace("\\040", " ");
        folder.starts_with(&place).then(|| (place.len(), kind.to_owned()))
    });
    // Of several at one place the last one counts.
    mounts.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

/// The processes of this computer that hold a lock file, as `/proc/locks` tells: `process 4711 (maple-pipe run ...)`.
fn users(lock: &Path) -> Vec<String> {
    let (Ok(file), Ok(locks)) = (fs::metadata(lock), fs::read_to_string("/proc/locks")) else { return Vec::new() };
    let ending = format!(":{}", file.ino());
    let is_ours = |words: &[&str]| words.iter().any(|word| word.matches(':').count() == 2 && word.ends_with(&ending));
    let mut processes: Vec<u32> = locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| is_ours(words) && words.get(1) != Some(&"->"))
        .filter_map(|words| words.get(4)?.parse().ok())
        .filter(|&process| process != std::process::id())
        .collect();
    processes.sort_unstable();
    processes.dedup();
    let command = |process: &u32| {
        let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words: Vec<String> =
            words.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        words.join(" ").trim().to_owned()
    };
    processes.iter().map(|process| format!("process {process} ({})", command(process))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_a_store_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        assert!(users(&lock).is_empty());
        fs::write(&lock, "").unwrap();
        let mut child = std::process::Command::new("flock")
            .arg("--shared")
            .arg(&lock)
            .args(["sh", "-c", "echo held; exec sleep 60"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 4];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        let found = users(&lock);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.len() == 1 && found[0].contains("flock --shared"), "{found:?}");
    }

    #[test]
    fn file_systems_have_names_and_room() {
        let folder = tempfile::tempdir().unwrap();
        assert!(file_system(folder.path()).is_some_and(|kind| !kind.is_empty()));
        assert!(room(&folder.path().join("not/there")).is_some_and(|room| room > 0));
        assert!(is_writable(folder.path()) && !is_writable(&folder.path().join("not/there")));
    }
}
