//! Real objects: files, buckets of S3, Google Cloud Storage and Azure, and web servers, through the crate `object_store`.

use std::collections::BTreeSet;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use tokio::runtime::Runtime;
use ureq::http::HeaderValue;
use url::{Position, Url};

use super::objects::{Fault, Object, Objects};
use super::web::{Silence, Web};
use crate::download::shown;
use crate::error::{Error, Result};

/// How often a request is made again, where that may help.
const RETRIES: usize = 3;
/// Bytes of the parts in which large objects are sent.
const PART: usize = 64 << 20;

/// The objects below an address.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Box<dyn ObjectStore>,
    /// Where in the store they lie.
    folder: Path,
    /// Whether large objects can be sent in parts.
    takes_parts: bool,
    /// Whether the remote has been silent for too long.
    silence: Silence,
}

/// The schemes of addresses, as messages name them.
const SCHEMES: &str = "`file://`, `s3://`, `gs://`, `az://`, `https://` or `http://`";

impl Bucket {
    /// Objects below an address. Credentials come from the environment, as the tools of each provider read it. What is being
    /// sent when `stopped` becomes true is not sent to its end.
    ///
    /// # Errors
    /// It is no address of this kind, or the environment lacks what is needed for it.
    pub fn open(address: &str, patience: Duration, stopped: &Arc<AtomicBool>) -> Result<Box<dyn Objects>> {
        let wrong = |message: String| Error::hinted(message, format!("an address begins with {SCHEMES}"));
        let mut url = Url::parse(address)
            .map_err(|error| wrong(format!("`{}` is not the address of a remote: {error}", shown(address))))?;
        let authorization = authorization(&url);
        if url.scheme().starts_with("http") {
            // Neither a message of the crate's nor one of ours can then hold them.
            let _ = url.set_password(None).and_then(|()| url.set_username(""));
        }
        let silence = Silence::default();
        let web = || Web::new(patience, authorization, silence.clone(), stopped.clone());
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: patience, base: 3.0 },
            max_retries: RETRIES,
            retry_timeout: patience,
        };
        let variables = || std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let folder = Path::from_url_path(url.path());
        let folder = folder.map_err(|error| wrong(format!("`{}` has no valid path: {error}", shown(address))))?;
        let opened: object_store::Result<(Box<dyn ObjectStore>, Path)> = match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| wrong(format!("`{address}` names no folder")))?;
                return Ok(Bucket::in_folder(&path));
            }
            "s3" | "s3a" => {
                let builder = AmazonS3Builder::new().with_retry(retry).with_http_connector(web());
                let builder = variables().fold(builder, |builder, (name, value)| match name.parse() {
                    Ok(key) if name.starts_with("aws_") => builder.with_config(key, value),
                    _ => builder,
                });
                let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
                let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
                let builder = if is_plain { builder.with_allow_http(true) } else { builder };
                builder.with_url(url.as_str()).build().map(|store| (Box::new(store) as _, folder))
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::new().with_retry(retry).with_http_connector(web());
                let builder =
                    variables().fold(builder, |builder, (name, value)| match name.parse::<GoogleConfigKey>() {
                        Ok(key) if name.starts_with("google_") => builder.with_config(key, value),
                        _ => builder,
                    });
                builder.with_url(url.as_str()).build().map(|store| (Box::new(store) as _, folder))
            }
            "az" | "azure" | "abfs" | "abfss" => {
                let builder = MicrosoftAzureBuilder::new().with_retry(retry).with_http_connector(web());
                let builder =
                    variables().fold(builder, |builder, (name, value)| match name.parse::<AzureConfigKey>() {
                        Ok(key) if name.starts_with("azure_") => builder.with_config(key, value),
                        _ => builder,
                    });
                builder.with_url(url.as_str()).build().map(|store| (Box::new(store) as _, folder))
            }
            "http" | "https" => {
                let builder = HttpBuilder::new().with_retry(retry).with_http_connector(web());
                let builder = builder.with_url(&url[..Position::BeforePath]);
                builder.build().map(|store| (Box::new(store) as _, folder))
            }
            other => return Err(wrong(format!("a remote cannot have an address that begins with `{other}://`"))),
        };
        let takes_parts = !url.scheme().starts_with("http");
        let (store, folder) = opened.map_err(|error| {
            Error::hinted(
                format!("the remote `{}` cannot be used: {}", shown(address), said(&error)),
                "credentials are read from the environment: AWS_*, GOOGLE_* or AZURE_*",
            )
        })?;
        Ok(Box::new(Bucket { store, folder, takes_parts, silence }))
    }

    /// The files below a folder. One that is absent, such as another machine's that is not mounted, is a remote that is down.
    fn in_folder(path: &FilePath) -> Box<dyn Objects> {
        let Ok(store) = LocalFileSystem::new_with_prefix(path) else { return Box::new(Absent) };
        let (folder, silence) = Default::default();
        Box::new(Bucket { store: Box::new(store), folder, takes_parts: true, silence })
    }

    fn place(&self, path: &str) -> Path {
        Path::parse(format!("{}/{path}", self.folder)).expect("the paths of a remote are plain")
    }

    fn object(&self, meta: &ObjectMeta) -> Object {
        let place = meta.location.as_ref();
        let path = place.strip_prefix(self.folder.as_ref()).unwrap_or(place).trim_start_matches('/');
        Object { path: path.to_owned(), size: meta.size, modified: meta.last_modified.into() }
    }
}

/// A folder that is not there.
#[derive(Debug)]
struct Absent;

impl Absent {
    fn answer<T>() -> Result<T, Fault> {
        Err(Fault::Remote("there is no such folder (make it first, or mount it)".to_owned()))
    }
}

impl Objects for Absent {
    fn read(&self, _: &str, _: u64, _: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<Option<Object>, Fault> {
        Absent::answer()
    }

    fn write(&self, _: &str, _: Bytes) -> Result<(), Fault> {
        Absent::answer()
    }

    fn look(&self, _: &str) -> Result<Option<Object>, Fault> {
        Absent::answer()
    }

    fn list(&self, _: &str) -> Result<Vec<Object>, Fault> {
        Absent::answer()
    }

    fn remove(&self, _: &str) -> Result<(), Fault> {
        Absent::answer()
    }
}

/// The header for the name and the password in an address.
fn authorization(url: &Url) -> Option<HeaderValue> {
    let decoded = |text: &str| {
        // What a form would read otherwise; `=` cannot stand here as it is.
        let text = text.replace('+', "%2B").replace('&', "%26");
        let pairs = url::form_urlencoded::parse(text.as_bytes()).into_owned().next();
        pairs.map_or_else(String::new, |(text, _)| text)
    };
    let password = url.password().map(decoded).unwrap_or_default();
    if url.username().is_empty() && password.is_empty() {
        return None;
    }
    let text = BASE64_STANDARD.encode(format!("{}:{password}", decoded(url.username())));
    let mut header = HeaderValue::from_str(&format!("Basic {text}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

impl Objects for Bucket {
    fn read(
        &self,
        path: &str,
        most: u64,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Option<Object>, Fault> {
        wait(async {
            let found = match self.store.get(&self.place(path)).await {
                Ok(found) => found,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(Fault::Remote(said(&error))),
            };
            let object = self.object(&found.meta);
            if object.size > most {
                return Err(Fault::Object(format!("it has {} bytes in place of at most {most}", object.size)));
            }
            let mut length = 0;
            let mut stream = found.into_stream();
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(|error| {
                    if self.silence.is_kept() { Fault::Remote(said(&error)) } else { Fault::Object(said(&error)) }
                })?;
                length += chunk.len() as u64;
                if length > object.size {
                    return Err(Fault::Object("it is longer than it is said to be".to_owned()));
                }
                take(&chunk).map_err(|error| match error.kind() {
                    io::ErrorKind::Interrupted => Fault::Stopped,
                    _ => Fault::Here(error.to_string()),
                })?;
            }
            if length < object.size {
                return Err(Fault::Object(format!("{length} of its {} bytes came", object.size)));
            }
            Ok(Some(object))
        })
    }

    fn write(&self, path: &str, content: Bytes) -> Result<(), Fault> {
        let place = self.place(path);
        let written = wait(async {
            if content.len() <= PART || !self.takes_parts {
                return self.store.put(&place, PutPayload::from_bytes(content)).await.map(drop);
            }
            let mut upload = self.store.put_multipart(&place).await?;
            let parts = (0..content.len()).step_by(PART);
            for part in parts.map(|start| content.slice(start..content.len().min(start + PART))) {
                if let Err(error) = upload.put_part(part.into()).await {
                    // What it leaves, the rules of the bucket remove.
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
            upload.complete().await.map(drop)
        });
        written.map_err(|error| Fault::Remote(said(&error)))
    }

    fn look(&self, path: &str) -> Result<Option<Object>, Fault> {
        match wait(self.store.head(&self.place(path))) {
            Ok(meta) => Ok(Some(self.object(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Fault::Remote(said(&error))),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>, Fault> {
        wait(async {
            let folder = self.place(folder);
            let mut stream = self.store.list(Some(&folder));
            // Some servers name what they have twice.
            let mut found = BTreeSet::new();
            while let Some(meta) = stream.next().await {
                match meta {
                    Ok(meta) => drop(found.insert(self.object(&meta))),
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(Fault::Remote(said(&error))),
                }
            }
            Ok(found.into_iter().collect())
        })
    }

    fn remove(&self, path: &str) -> Result<(), Fault> {
        match wait(self.store.delete(&self.place(path))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Fault::Remote(said(&error))),
        }
    }
}

/// Waits for one thing. Each thread has a clock of its own, so that none waits for another's request.
fn wait<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime of one thread needs nothing of the system");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// The last cause of an error: all others say it again.
fn last_cause(error: &object_store::Error) -> &dyn std::error::Error {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last
}

/// What an error says of a remote, in a few words behind its name. Addresses in it lose what may be secret: some providers put a
/// signature there.
fn said(error: &object_store::Error) -> String {
    let text = last_cause(error).to_string();
    let between = |start: &str, end: &str| Some(text.split_once(start)?.1.split_once(end)?.0.trim().to_owned());
    let status = between("status code: ", ":");
    if let Some(code) = between("<Code>", "</Code>").or(status) {
        return format!("it answers `{code}`");
    }
    // The crate says before it what was asked for, and how often.
    let text = text.rsplit("HTTP error: ").next().unwrap_or_default();
    match error {
        object_store::Error::PermissionDenied { .. } => "it refuses access".to_owned(),
        object_store::Error::Unauthenticated { .. } => "it does not know the credentials".to_owned(),
        _ => text.split_whitespace().map(without_secrets).collect::<Vec<_>>().join(" "),
    }
}

/// A word of a message, without what may be secret in an address.
fn without_secrets(word: &str) -> String {
    if word.contains("://") { shown(word) } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    /// A server that does something with its first connection, and what it is to be sent: more than a connection holds.
    fn server<T: Send + 'static>(
        patience: Duration,
        work: impl FnOnce(TcpStream, Arc<AtomicBool>) -> T + Send + 'static,
    ) -> (Box<dyn Objects>, Bytes, std::thread::JoinHandle<T>) {
        let (listener, stopped) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::default());
        let address = format!("http://{}/team", listener.local_addr().unwrap());
        let bucket = Bucket::open(&address, patience, &stopped).unwrap();
        let working = std::thread::spawn(move || work(listener.accept().unwrap().0, stopped));
        (bucket, vec![0_u8; PART].into(), working)
    }

    #[test]
    fn what_is_being_sent_is_not_sent_to_its_end_when_the_user_asks_to_stop() {
        let stop = |mut stream: TcpStream, stopped: Arc<AtomicBool>| {
            let (mut chunk, mut came) = (vec![0; 1000], 0);
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                stopped.store(true, Relaxed);
                came += length;
            }
            came
        };
        let (bucket, content, working) = server(Duration::from_secs(60), stop);
        assert!(bucket.write("large", content).is_err());
        assert!(working.join().unwrap() < PART);
    }

    #[test]
    fn a_server_that_reads_nothing_is_silent() {
        let (bucket, content, working) = server(Duration::from_secs(1), |stream, _| stream);
        assert_eq!(bucket.write("large", content), Err(Fault::Remote("it does not answer in time".to_owned())));
        drop(working.join().unwrap());
    }

    #[test]
    fn a_server_that_sends_a_byte_now_and_then_is_left_whatever_it_answers() {
        for status in ["200 OK", "404 Not Found", "403 Forbidden"] {
            let send = move |mut stream: TcpStream, _| {
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: 1000000\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            };
            let (bucket, _, working) = server(Duration::from_secs(1), send);
            let read = bucket.read("large", u64::MAX, &mut |_| Ok(()));
            assert_eq!(read, Err(Fault::Remote("it sends less than 1 kB a second".to_owned())), "{status}");
            working.join().unwrap();
        }
    }

    #[test]
    fn an_address_that_cannot_be_is_named_without_its_password() {
        for (address, says) in [
            ("team", "is not the address of a remote"),
            ("ftp://host/x", "begins with `ftp://`"),
            ("http://user:secret@[/x", "is not the address of a remote"),
        ] {
            let error = Bucket::open(address, Duration::from_secs(1), &Arc::default()).unwrap_err();
            let text = format!("{error}\n{}", error.hint().unwrap());
            assert!(text.contains(says) && text.contains(SCHEMES) && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_name_and_a_password_become_a_header() {
        let header = |address: &str| {
            let header = authorization(&Url::parse(address).unwrap())?;
            assert!(header.is_sensitive());
            Some(header.to_str().unwrap().to_owned())
        };
        assert_eq!(header("http://host/x"), None);
        // Aladdin:open sesame, as RFC 7617 has it.
        assert_eq!(header("http://Aladdin:open%20sesame@host/x").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn messages_hold_no_signature() {
        let source = "GET https://me:pw@host/a?sig=SECRET&id=1 failed".into();
        let text = said(&object_store::Error::Generic { store: "x", source });
        assert_eq!(text, "GET https://host/a?sig=...&id=1 failed");
        let source = "Error performing GET http://h/ in 1ms - Server returned non-2xx status code: 503 Service \
                      Unavailable: busy"
            .into();
        assert_eq!(said(&object_store::Error::Generic { store: "x", source }), "it answers `503 Service Unavailable`");
    }
}
