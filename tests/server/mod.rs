//! A web server for tests of downloads, which may break off, refuse parts or fail.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// How the server treats one request.
#[derive(Clone, Copy)]
pub enum Answer {
    /// Sends the range that is asked for, up to that many bytes, although it promises all.
    Range(usize),
    /// Sends everything, whatever is asked for, up to that many bytes.
    Whole(usize),
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
                let start = if wanted.is_some_and(|wanted| wanted != version) { 0 } else { start };
                let (head, body, sent) = match answer {
                    Answer::Status(status) => (status.to_owned(), &content[..0], 0),
                    Answer::Range(_) if start >= content.len() => (
                        format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{}", content.len()),
                        &content[..0],
                        0,
                    ),
                    Answer::Range(sent) if start > 0 => {
                        let range = format!("Content-Range: bytes {start}-{}/{}", content.len() - 1, content.len());
                        (format!("206 Partial Content\r\n{range}"), &content[start..], sent)
                    }
                    Answer::Range(sent) | Answer::Whole(sent) => ("200 OK".to_owned(), &content[..], sent),
                };
                let head = format!(
                    "HTTP/1.1 {head}\r\nETag: {version}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let mut stream = &stream;
                // A client that has seen enough may be gone.
                let _ =
                    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent.min(body.len())]));
            }
        });
        Server { url, asked }
    }

    /// The `Range` header of each request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
