//! Downloads a file: goes on where it stopped, and appears whole or not at all.

use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::Md5;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode, header};

use crate::error::{Error, Result};

/// Gets the bytes that are there, and how many there will be if that is known.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// What is known of a file's content: its publisher gives the one or the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// SHA-256, in lower-case hexadecimal.
    Sha256(String),
    /// MD5, in lower-case hexadecimal.
    Md5(String),
}

impl Display for Checksum {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Checksum::Sha256(digits) | Checksum::Md5(digits) => formatter.write_str(digits),
        }
    }
}

impl Checksum {
    /// What the checksum is called.
    pub fn name(&self) -> &'static str {
        match self {
            Checksum::Sha256(_) => "SHA-256",
            Checksum::Md5(_) => "MD5",
        }
    }

    /// How many hexadecimal digits it has.
    pub fn digits(&self) -> usize {
        match self {
            Checksum::Sha256(_) => 64,
            Checksum::Md5(_) => 32,
        }
    }

    /// Whether a file has this checksum; if not, the one that it has.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn check(&self, path: &Path) -> Result<Result<(), Checksum>> {
        let found = match self {
            Checksum::Sha256(_) => Checksum::Sha256(digest::<Sha256>(path)?),
            Checksum::Md5(_) => Checksum::Md5(digest::<Md5>(path)?),
        };
        Ok(if found == *self { Ok(()) } else { Err(found) })
    }
}

/// Downloads `url` to `target`. What has arrived is kept beside it as `*.part`, which the next call goes on from.
///
/// # Errors
/// When the server stops answering, or sends a web page or something else than `checksum`.
pub fn download(url: &str, checksum: Option<&Checksum>, target: &Path, progress: Progress) -> Result<()> {
    let agent = Agent::config_builder().timeout_connect(Some(SILENCE)).timeout_per_read(Some(SILENCE)).build();
    with_agent(&agent.new_agent(), url, checksum, target, progress)
}

fn with_agent(agent: &Agent, url: &str, checksum: Option<&Checksum>, target: &Path, progress: Progress) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file = OpenOptions::new().create(true).append(true).open(&part).map_err(Error::io("write", &part))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let message = format!("another process is downloading `{}`", target.display());
            return Err(Error::hinted(message, "wait until it is done"));
        }
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", &part)(error)),
    }
    let length = |file: &File| file.metadata().map(|metadata| metadata.len()).map_err(Error::io("read", &part));
    let mut furthest = length(&file)?;
    while let Err(message) = attempt(agent, url, &mut file, progress) {
        // A connection that breaks is taken up again for as long as that brings something new.
        let reached = length(&file)?;
        if reached <= furthest {
            return Err(Error::invalid(format!("could not download `{url}`: {message}")));
        }
        furthest = reached;
    }
    file.sync_all().map_err(Error::io("write", &part))?;
    if let Some(checksum) = checksum
        && let Err(found) = checksum.check(&part)?
    {
        std::fs::remove_file(&part).map_err(Error::io("remove", &part))?;
        let name = checksum.name();
        return Err(Error::invalid(format!("`{url}` is another file: its {name} is {found}, not {checksum}")));
    }
    std::fs::rename(&part, target).map_err(Error::io("write", target))
}

/// One request: the rest of the file is appended to what is there.
fn attempt(agent: &Agent, url: &str, file: &mut File, progress: Progress) -> Result<(), String> {
    let mut have = file.metadata().map_err(|error| error.to_string())?.len();
    let request = match have {
        0 => agent.get(url),
        _ => agent.get(url).header(header::RANGE, format!("bytes={have}-")),
    };
    let request = request.config().http_status_as_error(false).build();
    let mut response = request.call().map_err(|error| error.to_string())?;
    let page = content_type(response.headers()).is_some_and(|kind| kind.starts_with("text/html"));
    if page && response.status().is_success() {
        return Err("the server sent a web page instead of the file".to_owned());
    }
    let total = match response.status() {
        // The server does not send parts.
        StatusCode::OK => {
            file.set_len(0).map_err(|error| error.to_string())?;
            have = 0;
            response.body().content_length()
        }
        StatusCode::PARTIAL_CONTENT => match range(response.headers()) {
            Some((start, total)) if start == have => total,
            _ => return Err(format!("the server did not go on at byte {have}")),
        },
        // There is nothing behind what is there; the digest tells whether it is all.
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(()),
        status => return Err(format!("the server answered {status}")),
    };
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(have, total);
        match body.read(&mut buffer).map_err(|error| error.to_string())? {
            0 if total.is_some_and(|total| have < total) => return Err("the connection ended early".to_owned()),
            0 => return Ok(()),
            count => file.write_all(&buffer[..count]).map_err(|error| error.to_string())?,
        }
        have = file.metadata().map_err(|error| error.to_string())?.len();
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// The first byte of a `Content-Range` such as `bytes 100-199/200`, and the length of the whole.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// The SHA-256 of a file's content, as hexadecimal digits.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    digest::<Sha256>(path)
}

fn digest<Hash: Digest>(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut hasher, mut buffer) = (Hash::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::server::{ALL, Answer, Server};

    fn content() -> Vec<u8> {
        (0..300_000u32).map(|number| (number * 7 % 251) as u8).collect()
    }

    fn serve(answers: &[Answer]) -> Server {
        Server::start(content(), answers)
    }

    /// What the callers of `progress` are told.
    type Seen = Vec<(u64, Option<u64>)>;

    fn send(server: &Server, sha256: &str, target: &Path) -> Result<Seen> {
        let agent = Agent::config_builder().proxy(None).build().new_agent();
        let mut seen = Vec::new();
        let checksum = Checksum::Sha256(sha256.to_owned());
        with_agent(&agent, &server.url, Some(&checksum), target, &mut |have, total| seen.push((have, total)))?;
        Ok(seen)
    }

    fn place() -> (TempDir, PathBuf, String) {
        let folder = tempfile::tempdir().unwrap();
        let example = folder.path().join("example");
        std::fs::write(&example, content()).unwrap();
        let digest = sha256(&example).unwrap();
        let target = folder.path().join("deep/w.pt");
        (folder, target, digest)
    }

    fn part(target: &Path) -> PathBuf {
        target.with_file_name("w.pt.part")
    }

    #[test]
    fn a_digest_is_the_known_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_file_arrives_whole() {
        let (_folder, target, digest) = place();
        let server = serve(&[Answer::Range(ALL)]);
        let seen = send(&server, &digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
        assert_eq!((seen[0], seen[seen.len() - 1]), ((0, Some(300_000)), (300_000, Some(300_000))));
        assert!(!part(&target).exists());
    }

    #[test]
    fn a_broken_connection_is_taken_up_again() {
        let (_folder, target, digest) = place();
        let server = serve(&[Answer::Range(100_000), Answer::Range(50_000), Answer::Range(ALL)]);
        send(&server, &digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
        assert_eq!(server.asked(), ["", "bytes=100000-", "bytes=150000-"]);
    }

    #[test]
    fn the_next_call_goes_on_where_one_stopped() {
        let (_folder, target, digest) = place();
        let server = serve(&[Answer::Range(100_000), Answer::Status("503 Service Unavailable")]);
        let message = send(&server, &digest, &target).unwrap_err().to_string();
        let expected = format!("could not download `{}`: the server answered 503 Service Unavailable", server.url);
        assert_eq!(message, expected);
        assert_eq!(std::fs::read(part(&target)).unwrap(), content()[..100_000]);
        assert!(!target.exists());
        let server = serve(&[Answer::Range(ALL)]);
        send(&server, &digest, &target).unwrap();
        assert_eq!(server.asked(), ["bytes=100000-"]);
        assert_eq!(std::fs::read(&target).unwrap(), content());
    }

    #[test]
    fn a_server_without_ranges_starts_over_and_is_given_up_when_it_gets_no_further() {
        let (_folder, target, digest) = place();
        let server = serve(&[Answer::Whole(100_000), Answer::Whole(ALL)]);
        send(&server, &digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
        std::fs::remove_file(&target).unwrap();
        let server = serve(&[Answer::Whole(100_000), Answer::Whole(100_000), Answer::Whole(ALL)]);
        assert!(send(&server, &digest, &target).is_err());
        assert_eq!(server.asked().len(), 2);
    }

    #[test]
    fn all_that_is_there_already_is_not_asked_for_again() {
        let (_folder, target, digest) = place();
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(part(&target), content()).unwrap();
        let server = serve(&[Answer::Status("416 Range Not Satisfiable")]);
        send(&server, &digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
    }

    #[test]
    fn another_content_is_thrown_away() {
        let (_folder, target, digest) = place();
        let expected = digest.replace(|_| true, "0");
        let server = serve(&[Answer::Range(ALL)]);
        let message = send(&server, &expected, &target).unwrap_err().to_string();
        assert_eq!(message, format!("`{}` is another file: its SHA-256 is {digest}, not {expected}", server.url));
        assert!(!target.exists() && !part(&target).exists());
    }

    #[test]
    fn two_downloads_of_one_file_do_not_mix() {
        let (_folder, target, digest) = place();
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let other = File::create(part(&target)).unwrap();
        other.lock().unwrap();
        let server = serve(&[]);
        let message = send(&server, &digest, &target).unwrap_err().to_string();
        assert_eq!(message, format!("another process is downloading `{}`", target.display()));
    }
}
