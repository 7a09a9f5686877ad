//! HTTP for `object_store`, by the client and the TLS that this program has for its downloads. A call blocks its thread: each
//! thread that waits for objects waits for its own.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use ureq::http::{HeaderValue, Method, Request, header};
use ureq::{Agent, BodyReader, SendBody};

/// Bytes a second that a remote must send or take for each request. Many share a line that may be slow.
const SLOWEST: u64 = 1_000;
/// Connections that are kept open.
const CONNECTIONS: usize = 64;
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// Makes requests.
#[derive(Clone, Debug)]
pub(super) struct Web {
    agent: Agent,
    /// How long a server may be silent.
    patience: Duration,
    /// The header of a name and a password that stood in the address.
    authorization: Option<HeaderValue>,
    silence: Silence,
    /// The user asked to stop.
    stopped: Arc<AtomicBool>,
}

/// Whether a server has been silent for too long, or too slow; it is not asked again then.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence(Arc<AtomicBool>);

impl Silence {
    /// Whether it has been.
    pub fn is_kept(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// The error of a server that is not waited for any longer.
    fn begins(&self, message: String) -> HttpError {
        self.0.store(true, Relaxed);
        HttpError::new(HttpErrorKind::Unknown, Late(message))
    }

    /// What `object_store` makes of the kind of an error: whether it asks again.
    fn failed(&self, error: ureq::Error) -> HttpError {
        let silent = || self.begins("it does not answer in time".to_owned());
        match error {
            ureq::Error::Timeout(_) => silent(),
            ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => silent(),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpError::new(HttpErrorKind::Connect, error),
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                HttpError::new(HttpErrorKind::Connect, error)
            }
            ureq::Error::Io(error) => HttpError::new(HttpErrorKind::Interrupted, error),
            other => HttpError::new(HttpErrorKind::Unknown, other),
        }
    }
}

/// A server does not answer, or not as fast as it must.
#[derive(Debug)]
struct Late(String);

impl fmt::Display for Late {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for Late {}

impl Web {
    /// A client that waits so long.
    pub fn new(
        patience: Duration,
        authorization: Option<HeaderValue>,
        silence: Silence,
        stopped: Arc<AtomicBool>,
    ) -> Web {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .max_idle_connections(CONNECTIONS)
            .max_idle_connections_per_host(CONNECTIONS)
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience));
        Web { agent: config.build().new_agent(), patience, authorization, silence, stopped }
    }
}

impl HttpConnector for Web {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Web {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        if let Some(authorization) = &self.authorization {
            parts.headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let body = body.collect().await?.to_bytes();
        let has_body = !body.is_empty() || parts.method == Method::PUT || parts.method == Method::POST;
        let answer = if has_body {
            let time = self.patience + Duration::from_secs(body.len() as u64 / SLOWEST);
            parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
            let mut body = Outgoing { rest: body, stopped: self.stopped.clone() };
            let body = SendBody::from_reader(&mut body);
            let request = self.agent.configure_request(Request::from_parts(parts, body));
            self.agent.run(request.timeout_send_body(Some(time)).build())
        } else {
            self.agent.run(Request::from_parts(parts, ()))
        };
        let failed = |error| match self.stopped.load(Relaxed) {
            true => HttpError::new(HttpErrorKind::Unknown, error),
            false => self.silence.failed(error),
        };
        let (parts, body) = answer.map_err(failed)?.into_parts();
        let reader = Mutex::new(Reading { body: body.into_reader(), came: 0 });
        let body = HttpResponseBody::new(Incoming { reader, web: self.clone(), since: Instant::now() });
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// The body of a request, which ends early when the user asks to stop.
struct Outgoing {
    rest: Bytes,
    stopped: Arc<AtomicBool>,
}

impl Read for Outgoing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Relaxed) {
            return Err(io::Error::other("the user asked to stop"));
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The body of an answer as it comes, whatever it answers. It ends early when the user asks to stop.
struct Incoming {
    reader: Mutex<Reading>,
    web: Web,
    since: Instant,
}

/// How far a body has been read.
struct Reading {
    body: BodyReader<'static>,
    /// Bytes.
    came: u64,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let mut chunk = vec![0; CHUNK];
        let Web { patience, silence, stopped, .. } = &self.web;
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if stopped.load(Relaxed) {
            return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Unknown, Late("it was stopped".to_owned())))));
        }
        if self.since.elapsed() > *patience + Duration::from_secs(reader.came / SLOWEST) {
            let message = format!("it sends less than {} kB a second", SLOWEST / 1000);
            return Poll::Ready(Some(Err(silence.begins(message))));
        }
        Poll::Ready(match reader.body.read(&mut chunk) {
            Ok(0) => None,
            Ok(length) => {
                reader.came += length as u64;
                chunk.truncate(length);
                Some(Ok(Frame::data(chunk.into())))
            }
            Err(error) => Some(Err(silence.failed(ureq::Error::from(error)))),
        })
    }
}
