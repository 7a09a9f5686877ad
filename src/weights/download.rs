//! Downloads a file that is known by its SHA-256: goes on where it stopped, and appears whole or not at all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode, header};

use crate::error::{Error, Result};

/// Gets the bytes that are there, and how many there will be if that is known.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Downloads `url` to `target`. What has arrived is kept beside it as `*.part`, which the next call goes on from.
///
/// # Errors
/// When the server stops answering, or sends something else than `sha256`.
pub(super) fn download(url: &str, sha256: &str, target: &Path, progress: Progress) -> Result<()> {
    let agent = Agent::config_builder().timeout_connect(Some(SILENCE)).timeout_per_read(Some(SILENCE)).build();
    with_agent(&agent.new_agent(), url, sha256, target, progress)
}

fn with_agent(agent: &Agent, url: &str, sha256: &str, target: &Path, progress: Progress) -> Result<()> {
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
    let found = self::sha256(&part)?;
    if found != sha256 {
        std::fs::remove_file(&part).map_err(Error::io("remove", &part))?;
        return Err(Error::invalid(format!("`{url}` is another file: its SHA-256 is {found}, not {sha256}")));
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
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use tempfile::TempDir;

    use super::*;

    /// How the server treats one request.
    #[derive(Clone, Copy)]
    enum Answer {
        /// Sends the range that is asked for, up to that many bytes, although it promises all.
        Range(usize),
        /// Sends everything, whatever is asked for, up to that many bytes.
        Whole(usize),
        Status(&'static str),
    }

    const ALL: usize = usize::MAX;

    fn content() -> Vec<u8> {
        (0..300_000u32).map(|number| (number * 7 % 251) as u8).collect()
    }

    /// A server, and the ranges that were asked for; it is gone after the last answer.
    struct Server {
        url: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    fn serve(answers: &[Answer]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/w.pt", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answers) = (asked.clone(), answers.to_vec());
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(&stream).lines().map(|line| line.unwrap().to_lowercase());
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let range = head.iter().find_map(|line| line.strip_prefix("range: ")).unwrap_or_default().to_owned();
                let start: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
                log.lock().unwrap().push(range);
                let all = content();
                let (head, body, sent) = match answer {
                    Answer::Status(status) => (status.to_owned(), &all[..0], 0),
                    Answer::Range(sent) if start > 0 => {
                        let range = format!("Content-Range: bytes {start}-{}/{}", all.len() - 1, all.len());
                        (format!("206 Partial Content\r\n{range}"), &all[start..], sent)
                    }
                    Answer::Range(sent) | Answer::Whole(sent) => ("200 OK".to_owned(), &all[..], sent),
                };
                let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let mut stream = &stream;
                // A client that has seen enough may be gone.
                let _ =
                    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent.min(body.len())]));
            }
        });
        Server { url, asked }
    }

    impl Server {
        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }

        fn send(&self, sha256: &str, target: &Path) -> Result<Vec<(u64, Option<u64>)>> {
            let agent = Agent::config_builder().proxy(None).build().new_agent();
            let mut seen = Vec::new();
            with_agent(&agent, &self.url, sha256, target, &mut |have, total| seen.push((have, total)))?;
            Ok(seen)
        }
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
        let seen = server.send(&digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
        assert_eq!((seen[0], seen[seen.len() - 1]), ((0, Some(300_000)), (300_000, Some(300_000))));
        assert!(!part(&target).exists());
    }

    #[test]
    fn a_broken_connection_is_taken_up_again() {
        let (_folder, target, digest) = place();
        let server = serve(&[Answer::Range(100_000), Answer::Range(50_000), Answer::Range(ALL)]);
        server.send(&digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
        assert_eq!(server.asked(), ["", "bytes=100000-", "bytes=150000-"]);
    }

    #[test]
    fn the_next_call_goes_on_where_one_stopped() {
        let (_folder, target, digest) = place();
        let server = serve(&[Answer::Range(100_000), Answer::Status("503 Service Unavailable")]);
        let message = server.send(&digest, &target).unwrap_err().to_string();
        let expected = format!("could not download `{}`: the server answered 503 Service Unavailable", server.url);
        assert_eq!(message, expected);
        assert_eq!(std::fs::read(part(&target)).unwrap(), content()[..100_000]);
        assert!(!target.exists());
        let server = serve(&[Answer::Range(ALL)]);
        server.send(&digest, &target).unwrap();
        assert_eq!(server.asked(), ["bytes=100000-"]);
        assert_eq!(std::fs::read(&target).unwrap(), content());
    }

    #[test]
    fn a_server_without_ranges_starts_over_and_is_given_up_when_it_gets_no_further() {
        let (_folder, target, digest) = place();
        let server = serve(&[Answer::Whole(100_000), Answer::Whole(ALL)]);
        server.send(&digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
        std::fs::remove_file(&target).unwrap();
        let server = serve(&[Answer::Whole(100_000), Answer::Whole(100_000), Answer::Whole(ALL)]);
        assert!(server.send(&digest, &target).is_err());
        assert_eq!(server.asked().len(), 2);
    }

    #[test]
    fn all_that_is_there_already_is_not_asked_for_again() {
        let (_folder, target, digest) = place();
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(part(&target), content()).unwrap();
        let server = serve(&[Answer::Status("416 Range Not Satisfiable")]);
        server.send(&digest, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content());
    }

    #[test]
    fn another_content_is_thrown_away() {
        let (_folder, target, digest) = place();
        let expected = digest.replace(|_| true, "0");
        let server = serve(&[Answer::Range(ALL)]);
        let message = server.send(&expected, &target).unwrap_err().to_string();
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
        let message = server.send(&digest, &target).unwrap_err().to_string();
        assert_eq!(message, format!("another process is downloading `{}`", target.display()));
    }
}
