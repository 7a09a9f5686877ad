//! Downloads a file: goes on where it stopped, and appears whole or not at all.

use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use md5::Md5;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::error::{Error, Result};
use crate::files::{disguise_of, remove, room};
use crate::text::bytes;

/// Gets the bytes that are there, and how many there will be if that is known.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// What a server is granted.
const PATIENCE: Patience = Patience {
    pauses: &[Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)],
    while_slow: Duration::from_secs(60),
    rate: 1000,
};

/// What a server is granted.
#[derive(Clone, Copy)]
struct Patience {
    /// How long to wait before a server that is busy or down is asked again.
    pauses: &'static [Duration],
    /// How long it may take to connect and to send nothing; from then on it must have sent `rate` bytes per second.
    while_slow: Duration,
    rate: u64,
}

/// How fast a file comes, over all connections: since the last time that as much had come as a server must send while it may
/// be slow.
struct Pace {
    patience: Patience,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(patience: Patience) -> Pace {
        Pace { patience, since: Instant::now(), bytes: 0 }
    }

    fn add(&mut self, count: usize) -> Result<(), Failure> {
        let Patience { while_slow, rate, .. } = self.patience;
        self.bytes += count as u64;
        let time = self.since.elapsed();
        let least = |time: Duration| time.as_secs_f64() * rate as f64;
        if (self.bytes as f64) < least(time.saturating_sub(while_slow)) {
            let message = format!("the server sent {} in {:.0} s", bytes(self.bytes), time.as_secs_f64().ceil());
            return Err(Failure::final_one(message));
        }
        if self.bytes as f64 >= least(while_slow) {
            *self = Pace::new(self.patience);
        }
        Ok(())
    }
}

/// Names in a query that say which file is meant. What other names say may be a secret: a token, a signature.
const OPEN: [&str; 6] = ["id", "export", "confirm", "download", "dl", "raw"];

/// An address as it may be printed: without a name and password, and with `...` for what may be secret in its query.
pub fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
    let rest = rest.split('#').next().unwrap_or_default();
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    let value = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if !OPEN.contains(&name) => format!("{name}=..."),
        None => "...".to_owned(),
        Some(_) => pair.to_owned(),
    };
    let query = query.map(|query| format!("?{}", query.split('&').map(value).collect::<Vec<_>>().join("&")));
    format!("{scheme}{host}{path}{}", query.unwrap_or_default())
}

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

/// What a server says of one version of a file.
#[derive(Debug, Default)]
pub struct Version {
    /// Its strong `ETag`, or when it was modified; nothing where the server tells neither.
    tag: Option<String>,
    /// Its length in bytes.
    total: Option<u64>,
}

/// Downloads `url` to `target`. What has arrived is kept beside it as `*.part`, which the next call goes on from if the file
/// is still of the same version, or, where the server tells none, if `checksum` says in the end whether the parts fit. The
/// file has at most `most` bytes, and no more than there is room for.
///
/// # Errors
/// When the server stops answering or is slow, or sends too much, a web page or something else than `checksum`.
pub fn download(
    url: &str,
    checksum: Option<&Checksum>,
    most: u64,
    target: &Path,
    progress: Progress,
) -> Result<Version> {
    let agent = Agent::config_builder()
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    with_agent(&agent.build().new_agent(), PATIENCE, &Wanted { url, checksum, most }, target, progress)
}

/// What is asked for.
struct Wanted<'a> {
    url: &'a str,
    checksum: Option<&'a Checksum>,
    /// Bytes that it may have.
    most: u64,
}

impl Version {
    /// Takes a file for a part again, so that the next [`download`] asks whether it is still this version.
    pub(crate) fn put_back(&self, target: &Path) -> std::io::Result<()> {
        let part = beside(target, ".part");
        self.keep(&version_file(&part))?;
        std::fs::rename(target, part)
    }

    fn read(file: &Path) -> Version {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut lines = text.lines();
        let tag = lines.next().filter(|tag| !tag.is_empty() && HeaderValue::from_str(tag).is_ok());
        Version { tag: tag.map(str::to_owned), total: lines.next().and_then(|total| total.parse().ok()) }
    }

    /// Writes the tag and the length, a line each.
    fn keep(&self, file: &Path) -> std::io::Result<()> {
        if self.tag.is_none() && self.total.is_none() {
            return remove(file);
        }
        let total = self.total.map(|total| total.to_string());
        std::fs::write(file, format!("{}\n{}", self.tag.as_deref().unwrap_or_default(), total.unwrap_or_default()))
    }

    /// Of what a server sends. A weak `ETag` may be that of other bytes.
    fn sent(headers: &HeaderMap, total: Option<u64>) -> Version {
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let tag = text(header::ETAG).filter(|tag: &String| !tag.starts_with("W/"));
        Version { tag: tag.or_else(|| text(header::LAST_MODIFIED)), total }
    }

    /// Whether both say something, and not the same.
    fn contradicts(&self, other: &Version) -> bool {
        let differ = |one: bool, same: bool| one && !same;
        differ(self.tag.is_some() && other.tag.is_some(), self.tag == other.tag)
            || differ(self.total.is_some() && other.total.is_some(), self.total == other.total)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}

fn version_file(part: &Path) -> PathBuf {
    beside(part, ".version")
}

/// What has arrived of a file, and beside it the version that it is of.
struct Part {
    path: PathBuf,
    file: File,
}

/// How often a lock is tried for again before it counts as another process's, and how long after each time.
const TRIES_TO_LOCK: usize = 5;
const PAUSE_TO_LOCK: Duration = Duration::from_millis(50);

impl Part {
    /// The part of `target`, which no other process is downloading.
    fn open(target: &Path) -> Result<Part> {
        let path = beside(target, ".part");
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("write", &path))?;
        // A process that is just being started holds what is open here until it is another program.
        let mut tries = 0..TRIES_TO_LOCK;
        let locked = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if tries.next().is_some() => std::thread::sleep(PAUSE_TO_LOCK),
                locked => break locked,
            }
        };
        match locked {
            Ok(()) => Ok(Part { path, file }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process is downloading `{}`", target.display());
                Err(Error::hinted(message, "wait until it is done"))
            }
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(Error::io("read", &self.path))?.len())
    }

    fn version(&self) -> Version {
        Version::read(&version_file(&self.path))
    }

    /// Begins anew with this version.
    fn restart(&self, version: &Version) -> std::io::Result<()> {
        // Empty before it is called another version: whatever is interrupted here, no part has a wrong one.
        self.file.set_len(0)?;
        version.keep(&version_file(&self.path))
    }

    fn remove(&self) -> std::io::Result<()> {
        remove(&version_file(&self.path))?;
        remove(&self.path)
    }
}

fn with_agent(
    agent: &Agent,
    patience: Patience,
    wanted: &Wanted<'_>,
    target: &Path,
    progress: Progress,
) -> Result<Version> {
    let Wanted { url, checksum, .. } = *wanted;
    let failed =
        |message: String| Error::Download { url: shown(url), message: message.replace(url, &shown(url)), hint: None };
    let folder = target.parent().unwrap_or(Path::new("."));
    let is_new = !folder.exists();
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut part = Part::open(target)?;
    let mut pace = Pace::new(patience);
    let (mut furthest, mut pauses_left) = (part.length()?, patience.pauses.iter());
    while let Err(Failure { message, passes }) = attempt(agent, wanted, &mut part, &mut pace, progress) {
        // A connection that breaks is taken up again for as long as that brings something new.
        let reached = part.length()?;
        if reached > furthest && passes {
            (furthest, pauses_left) = (reached, patience.pauses.iter());
            continue;
        }
        match pauses_left.next() {
            Some(&pause) if passes => std::thread::sleep(pause),
            _ => {
                if reached == 0 {
                    // What has not begun leaves nothing; a folder with other things in it stays.
                    let _ = part.remove();
                    let _ = is_new.then(|| std::fs::remove_dir(folder));
                }
                return Err(failed(message));
            }
        }
    }
    if let Some(what) = disguise_of(&part.path)? {
        part.remove().map_err(Error::io("remove", &part.path))?;
        let _ = is_new.then(|| std::fs::remove_dir(folder));
        return Err(failed(format!("the server sent {what} instead of the file")));
    }
    part.file.sync_all().map_err(Error::io("write", &part.path))?;
    if let Some(checksum) = checksum
        && let Err(found) = checksum.check(&part.path)?
    {
        part.remove().map_err(Error::io("remove", &part.path))?;
        let name = checksum.name();
        return Err(Error::hinted(
            format!("`{}` is another file: its {name} is {found}, not {checksum}", shown(url)),
            format!(
                "what that server sends is damaged, or no longer the published file: find another copy, and put it at `{}`",
                target.display()
            ),
        ));
    }
    let (version, file) = (part.version(), version_file(&part.path));
    // While the part is locked: the file beside the next one is another download's.
    remove(&file).map_err(Error::io("remove", &file))?;
    std::fs::rename(&part.path, target).map_err(Error::io("write", target))?;
    Ok(version)
}

/// Why a request did not bring the file.
struct Failure {
    message: String,
    /// Whether the same request may succeed later.
    passes: bool,
}

impl Failure {
    fn final_one(message: impl ToString) -> Failure {
        Failure { message: message.to_string(), passes: false }
    }

    fn passing(message: impl ToString) -> Failure {
        Failure { message: message.to_string(), passes: true }
    }
}

/// One request: the rest of the file is appended to what is there.
fn attempt(
    agent: &Agent,
    wanted: &Wanted<'_>,
    part: &mut Part,
    pace: &mut Pace,
    progress: Progress,
) -> Result<(), Failure> {
    let Wanted { url, checksum, most } = *wanted;
    let mut have = part.length().map_err(Failure::final_one)?;
    let version = part.version();
    let rest = (header::RANGE, format!("bytes={have}-"));
    let request = match &version.tag {
        // A server that has another version now sends all of it.
        Some(version) if have > 0 => agent.get(url).header(rest.0, rest.1).header(header::IF_RANGE, version.as_str()),
        None if have > 0 && checksum.is_some() => agent.get(url).header(rest.0, rest.1),
        _ => agent.get(url),
    };
    let request = request.config().http_status_as_error(false).build();
    let mut response = request.call().map_err(|error| match error {
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => Failure::passing(error),
        error => Failure::final_one(error),
    })?;
    let page = content_type(response.headers()).is_some_and(|kind| kind.starts_with("text/html"));
    if page && response.status().is_success() {
        return Err(Failure::final_one("the server sent a web page instead of the file"));
    }
    let total = match response.status() {
        // The server does not send parts, or has another version.
        StatusCode::OK => {
            let total = response.body().content_length();
            part.restart(&Version::sent(response.headers(), total)).map_err(Failure::final_one)?;
            have = 0;
            total
        }
        StatusCode::PARTIAL_CONTENT => match range(response.headers()) {
            Some((start, total)) if start == have => {
                // Not every server looks at which version it is asked for.
                let sent = Version::sent(response.headers(), total);
                if version.contradicts(&sent) || total.is_some_and(|total| total < have) {
                    part.restart(&Version::default()).map_err(Failure::final_one)?;
                    return Err(Failure::passing("the server has another version of the file"));
                }
                total
            }
            _ => return Err(Failure::final_one(format!("the server did not go on at byte {have}"))),
        },
        // There is nothing behind what is there: it is all, or more than all.
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            let total = whole(response.headers());
            if total == Some(have) && !version.contradicts(&Version::sent(response.headers(), total)) {
                return Ok(());
            }
            part.restart(&Version::default()).map_err(Failure::final_one)?;
            return Err(Failure::passing("the server has a file of another size"));
        }
        status => {
            let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(Failure { message: format!("the server answered {status}"), passes });
        }
    };
    let too_large = |part: &Part, size: u64| {
        part.restart(&Version::default()).map_err(Failure::final_one)?;
        Err(Failure::final_one(format!("it has {} or more, and may have {}", bytes(size), bytes(most))))
    };
    if let Some(total) = total {
        if total > most {
            return too_large(part, total);
        }
        let room = part.path.parent().and_then(room).filter(|room| *room < total.saturating_sub(have));
        if let Some(room) = room {
            let message = format!("{} are to come, and there is room for {}", bytes(total - have), bytes(room));
            return Err(Failure::final_one(message));
        }
    }
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(have, total);
        match body.read(&mut buffer).map_err(Failure::passing)? {
            0 if total.is_some_and(|total| have < total) => {
                return Err(Failure::passing("the connection ended early"));
            }
            0 => return Ok(()),
            count => {
                part.file.write_all(&buffer[..count]).map_err(Failure::final_one)?;
                pace.add(count)?;
            }
        }
        have = part.length().map_err(Failure::final_one)?;
        if have > most {
            return too_large(part, have);
        }
        if total.is_some_and(|total| have > total) {
            part.restart(&Version::default()).map_err(Failure::final_one)?;
            return Err(Failure::final_one("the server sent more than it had said"));
        }
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

/// The length in a `Content-Range` such as `bytes */200`.
fn whole(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?.parse().ok()
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

    /// As patient as a test can wait.
    const PATIENCE: Patience =
        Patience { pauses: &[Duration::ZERO; 2], while_slow: Duration::from_millis(200), rate: 1000 };

    fn get(wanted: &Wanted<'_>, target: &Path, progress: Progress) -> Result<Version> {
        let agent = Agent::config_builder().proxy(None).build().new_agent();
        with_agent(&agent, PATIENCE, wanted, target, progress)
    }

    /// Why a file of at most that many bytes did not come from a server that answers like this.
    fn refusal(content: Vec<u8>, answer: Answer, most: u64, target: &Path) -> String {
        let server = Server::start(content, &[answer]);
        let error = get(&Wanted { url: &server.url, checksum: None, most }, target, &mut |_, _| {}).unwrap_err();
        assert!(!target.exists());
        error.to_string().replace(&format!("could not download `{}`: ", server.url), "")
    }

    fn send(server: &Server, sha256: &str, target: &Path) -> Result<Seen> {
        send_checked(server, Some(&Checksum::Sha256(sha256.to_owned())), target)
    }

    fn send_checked(server: &Server, checksum: Option<&Checksum>, target: &Path) -> Result<Seen> {
        let mut seen = Vec::new();
        let progress = &mut |have, total| seen.push((have, total));
        get(&Wanted { url: &server.url, checksum, most: u64::MAX }, target, progress)?;
        assert_eq!(std::fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        Ok(seen)
    }

    fn part(target: &Path) -> PathBuf {
        beside(target, ".part")
    }

    /// A part of `content` of which a server has sent as much.
    fn begin(content: Vec<u8>, count: usize, target: &Path) {
        let server = Server::start(content, &[Answer::Range(count), Answer::Status("404 Not Found")]);
        assert!(send_checked(&server, None, target).is_err());
        assert_eq!(std::fs::metadata(part(target)).unwrap().len(), count as u64);
    }

    fn place() -> (TempDir, PathBuf, String) {
        let folder = tempfile::tempdir().unwrap();
        let example = folder.path().join("example");
        std::fs::write(&example, content()).unwrap();
        let digest = sha256(&example).unwrap();
        let target = folder.path().join("deep/w.pt");
        (folder, target, digest)
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
        let server = serve(&[Answer::Range(100_000), Answer::Status("404 Not Found")]);
        let message = send(&server, &digest, &target).unwrap_err().to_string();
        let expected = format!("could not download `{}`: the server answered 404 Not Found", server.url);
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
        let server = serve(&[Answer::Whole(100_000); 5]);
        assert!(send(&server, &digest, &target).is_err());
        assert_eq!(server.asked().len(), 4);
    }

    #[test]
    fn a_server_that_is_busy_is_asked_again_and_given_up_in_the_end() {
        let (_folder, target, digest) = place();
        let busy = Answer::Status("503 Service Unavailable");
        let server = serve(&[busy, busy, Answer::Range(100_000), busy, busy, Answer::Range(ALL)]);
        send(&server, &digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
        std::fs::remove_file(&target).unwrap();
        std::fs::remove_dir(target.parent().unwrap()).unwrap();
        let server = serve(&[busy; 4]);
        let message = send(&server, &digest, &target).unwrap_err().to_string();
        assert!(message.ends_with("the server answered 503 Service Unavailable"), "{message}");
        assert_eq!(server.asked().len(), 3);
        // Nothing has come, so nothing is left.
        assert!(!target.parent().unwrap().exists());
    }

    #[test]
    fn a_refused_connection_is_tried_again() {
        let (_folder, target, digest) = place();
        let server = serve(&[]);
        let message = send(&server, &digest, &target).unwrap_err().to_string();
        assert!(message.contains("could not download"), "{message}");
        assert!(!target.parent().unwrap().exists());
    }

    #[test]
    fn all_that_is_there_already_is_not_asked_for_again() {
        let (_folder, target, digest) = place();
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(part(&target), content()).unwrap();
        let server = serve(&[Answer::Range(ALL)]);
        send(&server, &digest, &target).unwrap();
        assert_eq!(server.asked(), ["bytes=300000-"]);
        assert_eq!(std::fs::read(&target).unwrap(), content());
    }

    #[test]
    fn a_part_of_another_version_is_not_gone_on_from() {
        let (_folder, target, _) = place();
        let older = content().into_iter().map(|byte| byte ^ 1).collect::<Vec<u8>>();
        begin(older, 100_000, &target);
        let server = serve(&[Answer::Range(200_000), Answer::Range(ALL)]);
        send_checked(&server, None, &target).unwrap();
        assert_eq!(server.asked(), ["bytes=100000-", "bytes=200000-"]);
        assert_eq!(std::fs::read(&target).unwrap(), content());
    }

    /// Some servers send the rest of whatever they have, whichever version is asked for.
    #[test]
    fn the_rest_of_another_version_is_not_taken() {
        let (_folder, target, _) = place();
        let older = content().into_iter().map(|byte| byte ^ 1).collect::<Vec<u8>>();
        begin(older, 100_000, &target);
        let server = serve(&[Answer::Heedless(ALL), Answer::Range(ALL)]);
        send_checked(&server, None, &target).unwrap();
        assert_eq!(server.asked(), ["bytes=100000-", ""]);
        assert_eq!(std::fs::read(&target).unwrap(), content());
    }

    #[test]
    fn a_file_whose_length_has_changed_starts_over() {
        let (_folder, target, digest) = place();
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        for (have, total) in [(100_000, 299_999), (100_000, 300_001), (300_000, 300_001)] {
            std::fs::write(part(&target), &content()[..have]).unwrap();
            Version { tag: None, total: Some(total) }.keep(&version_file(&part(&target))).unwrap();
            let server = serve(&[Answer::Range(ALL), Answer::Range(ALL)]);
            send(&server, &digest, &target).unwrap();
            assert_eq!(server.asked(), [format!("bytes={have}-"), String::new()]);
            assert_eq!(std::fs::read(&target).unwrap(), content());
            std::fs::remove_file(&target).unwrap();
        }
    }

    #[test]
    fn a_version_is_kept_with_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("version");
        for (tag, total) in [(Some("\"a b\""), Some(7)), (Some("\"a\""), None), (None, Some(0)), (None, None)] {
            Version { tag: tag.map(str::to_owned), total }.keep(&file).unwrap();
            let read = Version::read(&file);
            assert_eq!((read.tag.as_deref(), read.total), (tag, total));
        }
        assert!(!file.exists(), "nothing is known, so nothing is kept");
    }

    #[test]
    fn a_slow_server_is_given_up_and_what_came_is_kept() {
        let (_folder, target, _) = place();
        let message = refusal(content(), Answer::Slow, u64::MAX, &target);
        assert!(message.starts_with("the server sent ") && message.ends_with(" B in 1 s"), "{message}");
        assert!(part(&target).exists());
    }

    #[test]
    fn what_is_too_large_is_not_taken() {
        let (_folder, target, _) = place();
        for answer in [Answer::Range(ALL), Answer::Promises(1 << 40), Answer::Endless] {
            let message = refusal(content(), answer, 100_000, &target);
            assert!(message.ends_with(" or more, and may have 100 kB"), "{message}");
            assert!(!target.parent().unwrap().exists());
        }
        let message = refusal(content(), Answer::Promises(1 << 62), u64::MAX, &target);
        assert!(message.starts_with("4611686.0 TB are to come, and there is room for "), "{message}");
    }

    #[test]
    fn a_page_in_place_of_a_file_is_not_taken() {
        let (_folder, target, digest) = place();
        let page = b"\n<!DOCTYPE html>\n<title>Google Drive - Quota exceeded</title>".to_vec();
        let message = refusal(page.clone(), Answer::Range(ALL), u64::MAX, &target);
        assert_eq!(message, "the server sent a web page instead of the file");
        assert!(!target.parent().unwrap().exists());
        let server = Server::start(page, &[Answer::Range(ALL)]);
        let message = send(&server, &digest, &target).unwrap_err().to_string();
        assert!(message.ends_with(": the server sent a web page instead of the file"), "{message}");
    }

    #[test]
    fn secrets_in_addresses_are_not_printed() {
        for (url, printed) in [
            ("https://example.org/a.tar", "https://example.org/a.tar"),
            ("https://me:secret@example.org:80/a@b.tar", "https://example.org:80/a@b.tar"),
            ("https://me:p@ss@example.org", "https://example.org"),
            (
                "https://example.org/a?token=secret&id=7&X-Amz-Signature=0a",
                "https://example.org/a?token=...&id=7&X-Amz-Signature=...",
            ),
            ("https://example.org?secret#also", "https://example.org?..."),
            ("me:secret@example.org/a", "example.org/a"),
            ("", ""),
        ] {
            assert_eq!(shown(url), printed);
        }
        let (_folder, target, digest) = place();
        let server = serve(&[Answer::Status("403 Forbidden")]);
        let url = format!("{}?token=secret", server.url.replace("//", "//me:secret@"));
        for url in [url.as_str(), "https://me:secret@exa mple.org/?sig=secret"] {
            let wanted = Wanted { url, checksum: Some(&Checksum::Sha256(digest.clone())), most: u64::MAX };
            let message = get(&wanted, &target, &mut |_, _| {}).unwrap_err().to_string();
            assert!(message.starts_with("could not download `http") && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_part_of_the_same_version_is_gone_on_from_without_a_checksum() {
        let (_folder, target, _) = place();
        begin(content(), 100_000, &target);
        let server = serve(&[Answer::Range(ALL)]);
        let seen = send_checked(&server, None, &target).unwrap();
        assert_eq!(seen[0], (100_000, Some(300_000)));
        assert_eq!(std::fs::read(&target).unwrap(), content());
    }

    #[test]
    fn without_version_and_checksum_a_download_starts_over() {
        let (_folder, target, digest) = place();
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let asked = |checksum: Option<&Checksum>| {
            std::fs::write(part(&target), &content()[..100_000]).unwrap();
            let server = serve(&[Answer::Range(ALL)]);
            send_checked(&server, checksum, &target).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), content());
            std::fs::remove_file(&target).unwrap();
            server.asked()
        };
        assert_eq!(asked(None), [""]);
        assert_eq!(asked(Some(&Checksum::Sha256(digest))), ["bytes=100000-"]);
    }

    #[test]
    fn a_part_that_is_longer_than_the_file_starts_over() {
        let (_folder, target, digest) = place();
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        for more in [1, 100_000] {
            std::fs::write(part(&target), [content(), vec![0; more]].concat()).unwrap();
            let server = serve(&[Answer::Range(ALL), Answer::Range(ALL)]);
            send(&server, &digest, &target).unwrap();
            assert_eq!(server.asked().len(), 2);
            assert_eq!(std::fs::read(&target).unwrap(), content());
            std::fs::remove_file(&target).unwrap();
        }
    }

    #[test]
    fn what_was_put_back_is_not_asked_for_again() {
        let (_folder, target, _) = place();
        let server = serve(&[Answer::Range(ALL), Answer::Range(ALL)]);
        let again =
            || get(&Wanted { url: &server.url, checksum: None, most: u64::MAX }, &target, &mut |_, _| {}).unwrap();
        again().put_back(&target).unwrap();
        assert!(!target.exists());
        again();
        assert_eq!(server.asked(), ["", "bytes=300000-"]);
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
