//! A web server of objects, which keeps them in memory or hands requests on to another, and may be down, slow, or lie.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(dead_code, reason = "each of the test programs takes some of them")]
pub enum Fault {
    /// Nothing.
    None,
    /// This status line, in place of an answer.
    Status(&'static str),
    /// This status line with a body, as S3 sends its errors.
    Refusal(&'static str, &'static str),
    /// Half of the body, although all is promised.
    Cut,
    /// Half of the body, as if it were all.
    Short,
    /// Another byte in the middle.
    Wrong,
    /// No answer, while the connection stays.
    Silent,
    /// No answer until this fault is over.
    Held,
    /// A byte of the body now and then.
    Slow,
    /// The whole answer after the time that it takes from another continent.
    Far,
    /// The end of the connection, without an answer.
    Closed,
}

/// Which fault a request by its method and its path meets.
type Faults = Box<dyn Fn(&str, &str) -> Fault + Send>;

/// A server on this machine.
pub struct ObjectServer {
    /// Its address, without a path.
    pub url: String,
    inside: Arc<Inside>,
}

struct Inside {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Where requests are handed on to.
    behind: Option<String>,
    faults: Mutex<Faults>,
    /// The requests so far: method and path, and the header `Authorization`.
    asked: Mutex<Vec<(String, String)>>,
}

/// A request.
struct Request {
    method: String,
    path: String,
    /// All lines of the head but the first.
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Request> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            headers.push(line.to_owned());
        }
        let mut request = Request { method, path, headers, body: Vec::new() };
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.take(length).read_to_end(&mut request.body).ok()?;
        Some(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.headers.iter().filter_map(|line| line.split_once(':'));
        pairs.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// An answer: the head without its last line, and the body.
struct Answer {
    head: String,
    body: Vec<u8>,
}

#[allow(dead_code, reason = "each of the test programs takes some of them")]
impl ObjectServer {
    /// Keeps objects in memory.
    pub fn start() -> ObjectServer {
        ObjectServer::serve(None)
    }

    /// Hands requests on to the server at this host and port.
    pub fn before(behind: &str) -> ObjectServer {
        ObjectServer::serve(Some(behind.to_owned()))
    }

    fn serve(behind: Option<String>) -> ObjectServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let faults: Faults = Box::new(|_, _| Fault::None);
        let (objects, asked) = Default::default();
        let inside = Arc::new(Inside { objects, behind, faults: Mutex::new(faults), asked });
        let shared = inside.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inside = shared.clone();
                std::thread::spawn(move || inside.answer(&stream));
            }
        });
        ObjectServer { url, inside }
    }

    /// From now on requests meet these faults.
    pub fn disturb(&self, faults: impl Fn(&str, &str) -> Fault + Send + 'static) {
        *self.inside.faults.lock().unwrap() = Box::new(faults);
    }

    /// The requests since the last time, by method and path, with their header `Authorization`.
    pub fn asked(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.inside.asked.lock().unwrap())
    }

    /// The paths of the objects in memory.
    pub fn paths(&self) -> Vec<String> {
        self.inside.objects.lock().unwrap().keys().cloned().collect()
    }
}

impl Inside {
    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let request = Request::read(stream)?;
        let authorization = request.header("authorization").unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push((format!("{} {}", request.method, request.path), authorization));
        let ask = || (self.faults.lock().unwrap())(&request.method, &request.path);
        let mut fault = ask();
        while fault == Fault::Held {
            std::thread::sleep(Duration::from_millis(5));
            fault = ask();
        }
        let refusal = |status: &str, body: &str| Answer {
            head: format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()),
            body: body.as_bytes().to_vec(),
        };
        let mut answer = match fault {
            Fault::Status(status) => refusal(status, ""),
            Fault::Refusal(status, body) => refusal(status, body),
            Fault::Silent => {
                // Until the client has had enough.
                let mut stream = stream;
                let _ = stream.read(&mut [0]);
                return None;
            }
            Fault::Closed => return None,
            _ => match &self.behind {
                Some(behind) => forward(behind, &request)?,
                None => self.own(&request),
            },
        };
        if request.method == "GET" && !answer.body.is_empty() {
            let half = answer.body.len() / 2;
            match fault {
                Fault::Cut => answer.body.truncate(half),
                Fault::Wrong => answer.body[half] ^= 1,
                Fault::Short => {
                    answer.body.truncate(half);
                    let lines = answer.head.split_inclusive("\r\n");
                    let other = lines.filter(|line| !line.to_lowercase().starts_with("content-length:"));
                    answer.head = other.collect::<String>() + &format!("Content-Length: {half}\r\n");
                }
                _ => {}
            }
        }
        if fault == Fault::Far {
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut stream = stream;
        stream.write_all(format!("{}Connection: close\r\n\r\n", answer.head).as_bytes()).ok()?;
        if fault == Fault::Slow {
            // Until the client has had enough.
            return answer.body.iter().try_for_each(|byte| {
                std::thread::sleep(Duration::from_millis(100));
                stream.write_all(&[*byte]).ok()
            });
        }
        stream.write_all(&answer.body).ok()
    }

    fn own(&self, request: &Request) -> Answer {
        let mut objects = self.objects.lock().unwrap();
        let (status, body) = match (request.method.as_str(), objects.get(&request.path)) {
            ("PUT", _) => {
                objects.insert(request.path.clone(), request.body.clone());
                ("201 Created", Vec::new())
            }
            ("GET" | "HEAD", Some(content)) => ("200 OK", content.clone()),
            ("GET" | "HEAD", None) => ("404 Not Found", Vec::new()),
            _ => ("405 Method Not Allowed", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        Answer { head, body: if request.method == "HEAD" { Vec::new() } else { body } }
    }
}

/// Asks the server behind; what keeps its connection open is left out of head and headers.
fn forward(behind: &str, request: &Request) -> Option<Answer> {
    let mut stream = TcpStream::connect(behind).ok()?;
    let is_of_connection = |line: &str| line.to_lowercase().starts_with("connection:");
    let headers: String =
        request.headers.iter().filter(|line| !is_of_connection(line)).map(|line| format!("{line}\r\n")).collect();
    let head = format!("{} {} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n", request.method, request.path);
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&request.body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer).into_owned();
    let lines = head.split_inclusive("\r\n").filter(|line| !is_of_connection(line) && *line != "\r\n");
    Some(Answer { head: lines.collect(), body })
}
