//! A web server for tests of downloads, which may break off, refuse parts or fail.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// How the server treats one request.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "each of the test programs takes some of them")]
pub enum Answer {
    /// Sends the range that is asked for, up to that many bytes, although it promises all.
    Range(usize),
    /// Sends everything, whatever is asked for, up to that many bytes.
    Whole(usize),
    /// Sends the rest of what it has, whichever version is asked for, up to that many bytes.
    Heedless(usize),
    /// Promises that many bytes, and sends what it has.
    Promises(u64),
    /// Promises nothing, and sends zeros until nobody listens.
    Endless,
    /// Sends a byte now and then until nobody listens.
    Slow,
    /// Sends nothing but a status line.
    Status(&'static str),
}

/// Sends all that is asked for.
pub const ALL: usize = usize::MAX;

/// A server of one file, whose `ETag` is that of its content, and the ranges that were asked for; it is gone after the last answer.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers as many requests as there are answers, in order; without one, nobody listens at its address.
    pub fn start(content: Vec<u8>, answers: &[Answer]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/w.pt", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answers) = (asked.clone(), answers.to_vec());
        if answers.is_empty() {
            return Server { url, asked };
        }
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(&stream).lines().map(|line| line.unwrap().to_lowercase());
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let range = head.iter().find_map(|line| line.strip_prefix("range: ")).unwrap_or_default().to_owned();
                let start: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
                log.lock().unwrap().push(range);
                // What tells this content from others, and whether another one was asked for.
                let version = format!(
                    "\"{:x}\"",
                    content.iter().fold(7u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
                );
                let wanted = head.iter().find_map(|line| line.strip_prefix("if-range: "));
                let heeds = !matches!(answer, Answer::Heedless(_));
                let start = if heeds && wanted.is_some_and(|wanted| wanted != version) { 0 } else { start };
                let (head, body, sent) = match answer {
                    Answer::Status(status) => (status.to_owned(), &content[..0], 0),
                    Answer::Range(_) if start >= content.len() => (
                        format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{}", content.len()),
                        &content[..0],
                        0,
                    ),
                    Answer::Range(sent) | Answer::Heedless(sent) if start > 0 => {
                        let range = format!("Content-Range: bytes {start}-{}/{}", content.len() - 1, content.len());
                        (format!("206 Partial Content\r\n{range}"), &content[start..], sent)
                    }
                    Answer::Range(sent) | Answer::Whole(sent) | Answer::Heedless(sent) => {
                        ("200 OK".to_owned(), &content[..], sent)
                    }
                    Answer::Promises(_) | Answer::Endless => ("200 OK".to_owned(), &content[..], ALL),
                    Answer::Slow => ("200 OK".to_owned(), &content[..], 0),
                };
                let length = match answer {
                    Answer::Endless => String::new(),
                    Answer::Promises(length) => format!("Content-Length: {length}\r\n"),
                    _ => format!("Content-Length: {}\r\n", body.len()),
                };
                let head = format!("HTTP/1.1 {head}\r\nETag: {version}\r\n{length}Connection: close\r\n\r\n");
                let mut stream = &stream;
                // A client that has seen enough may be gone.
                let _ =
                    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent.min(body.len())]));
                match answer {
                    Answer::Endless => while stream.write_all(&[0; 1 << 12]).is_ok() {},
                    Answer::Slow => {
                        while stream.write_all(&[0]).is_ok() {
                            std::thread::sleep(std::time::Duration::from_millis(20));
                        }
                    }
                    _ => {}
                }
            }
        });
        Server { url, asked }
    }

    /// The `Range` header of each request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
