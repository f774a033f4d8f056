//! Endpoints from a file.

mod error;
mod list;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Clock, EndpointId, Endpoints, Name};

pub use error::FileError;

use self::list::{Format, Listed};
use super::DiscoverEvent;
use super::feed::Feed;

/// How long a new content has to stay as it is before it is taken, so that one that is being written is not.
const SETTLE: Duration = Duration::from_millis(100);
/// A list that is longer is no list of endpoints.
const MOST_BYTES: u64 = 16 << 20;

/// Endpoints that are listed in a TOML or JSON file, which is read again when it changes.
///
/// It is TOML when its name ends in `.toml`, with a table for each endpoint:
///
/// ```toml
/// [[endpoint]]
/// name = "web-1"              # the one field that must be there: who it is
/// address = "10.0.0.1:8080"   # where it is reached; its name, unless said otherwise
/// weight = 4                  # 1 unless said otherwise; with 0 it gets no new traffic
/// zone = "eu-1a"
/// priority = 0                # 0 is used first, and is the default
/// metadata = { version = "17" }
/// drain = true                # no new calls but those that are bound to it
/// maintenance = false         # no calls at all
/// ```
///
/// It is JSON when its name ends in `.json`: a list of objects with these fields.
///
/// A file that is not there, cannot be read, is not well formed, has a field or a value that does not belong there, has a name twice, or has no endpoints
/// ([`accept_empty`](Self::accept_empty)) changes nothing: the observer is told what is wrong, with the line, once for each content, and
/// the last good list stays in use. A good one takes the place of the one before as a whole.
///
/// The path is read every 2 s, and what it then leads to counts: a file that is written in place, one that is renamed over it, and
/// the symbolic links by which Kubernetes swaps a ConfigMap are all seen. A new content is taken when it was the same twice, 100 ms apart;
/// where it may take longer to write, write another file and rename it. To read a small file is cheap, and works on every file system, which is
/// why there is nothing that the system would have to notify: network and overlay file systems often do not.
///
/// `drain` and `maintenance` are set when the file says other than it said before; in between they are the operator's, by
/// [`Endpoint::drain`](buttress_core::Endpoint::drain) and the like.
///
/// ```
/// use buttress_balance::discover::File;
///
/// # fn main() -> Result<(), buttress_balance::discover::FileError> {
/// let source = File::new("/etc/gateway/endpoints.toml")?.observe(|event| eprintln!("{event:?}"));
/// let endpoints = source.endpoints();
/// // tokio::spawn(source.run());
/// # let _ = (source, endpoints);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it runs"]
pub struct File {
    feed: Feed,
    path: Arc<Path>,
    format: Format,
    every: Duration,
    accepts_empty: bool,
}

impl File {
    /// The endpoints that are listed in the file at `path`, which need not be there yet.
    ///
    /// # Errors
    ///
    /// When its name ends neither in `.toml` nor in `.json`.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, FileError> {
        let path = path.into();
        let name = Name::from(path.display().to_string());
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Format::Toml,
            Some("json") => Format::Json,
            _ => return Err(FileError::Format { path: name }),
        };
        let feed = Feed::empty(name);
        Ok(Self { feed, path: path.into(), format, every: Duration::from_secs(2), accepts_empty: false })
    }

    /// Looks at the file so often. Every 2 s by default.
    ///
    /// # Panics
    ///
    /// When it is zero.
    pub fn every(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "a file looked at every 0 s: must be above zero, and 2 s is usual");
        self.every = interval;
        self
    }

    /// Takes a list without endpoints for what it says, and not for a mistake.
    pub fn accept_empty(mut self) -> Self {
        self.accepts_empty = true;
        self
    }

    /// Tells `observer` of each new list, and of each content that is refused. There is none unless said otherwise.
    pub fn observe(mut self, observer: impl Fn(&DiscoverEvent<'_>) + Send + Sync + 'static) -> Self {
        self.feed.observe(observer);
        self
    }

    /// Waits by `clock` instead of [`Clock::default`] until it looks again.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.feed.clock = clock;
        self
    }

    /// The endpoints that it keeps up to date while it [runs](Self::run).
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        self.feed.endpoints.clone()
    }

    /// Reads the file, and again when it has changed, for ever. It needs a tokio runtime, which reads on a thread where that may
    /// block.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the endpoints stay as they are.
    pub async fn run(self) {
        let mut marks = Marks::default();
        // What was seen at the last look, and what was judged last.
        let (mut seen, mut judged): (Option<Arc<[u8]>>, Option<Arc<[u8]>>) = (None, None);
        let mut unreadable = None;
        loop {
            let content = self.read().await;
            let mut wait = self.every;
            match content {
                Err(error) => {
                    seen = None;
                    let text = error.to_string();
                    if unreadable.as_ref() != Some(&text) {
                        let error =
                            FileError::Unreadable { path: self.feed.source.clone(), source: Arc::new(error) };
                        self.feed.failed(&error, Some(wait));
                        unreadable = Some(text);
                    }
                }
                Ok(content) => {
                    unreadable = None;
                    if judged.as_ref() == Some(&content) {
                        seen = None;
                    } else if seen.as_ref() == Some(&content) {
                        self.judge(&content, &mut marks).await;
                        judged = Some(content);
                        seen = None;
                    } else {
                        seen = Some(content);
                        wait = SETTLE;
                    }
                }
            }
            self.feed.clock.sleep(wait).await;
        }
    }

    async fn read(&self) -> io::Result<Arc<[u8]>> {
        let path = Arc::clone(&self.path);
        tokio::task::spawn_blocking(move || read(&path)).await?
    }

    /// Takes over the list that is written there, or says what is wrong with it.
    async fn judge(&self, content: &Arc<[u8]>, marks: &mut Marks) {
        let (format, path, content) = (self.format, self.feed.source.clone(), Arc::clone(content));
        let parsed = tokio::task::spawn_blocking(move || format.parse(&path, &content)).await;
        let path = self.feed.source.clone();
        match parsed {
            Ok(Ok(list)) if list.is_empty() && !self.accepts_empty => {
                self.feed.failed(&FileError::Empty { path }, Some(self.every));
            }
            Ok(Ok(list)) => self.take(list, marks),
            Ok(Err(error)) => self.feed.failed(&error, Some(self.every)),
            Err(error) if error.is_panic() => {
                let error = FileError::Unreadable { path, source: Arc::new(error.into()) };
                self.feed.failed(&error, Some(self.every));
            }
            // The runtime is being shut down.
            Err(_) => {}
        }
    }

    fn take(&self, list: Vec<Listed>, marks: &mut Marks) {
        let now = self.feed.clock.now();
        let next: Vec<(Name, EndpointId, Mark)> = list
            .iter()
            .map(|listed| (listed.endpoint.name().clone(), listed.endpoint.id(), listed.mark))
            .collect();
        let endpoints = list.into_iter().map(|Listed { endpoint, mark }| {
            // For those that are new: they are never seen without.
            mark.set(&endpoint, now);
            endpoint
        });
        let is_new = match self.feed.put(endpoints.collect()) {
            Ok(is_new) => is_new,
            Err(error) => return self.feed.failed(&error, Some(self.every)),
        };

        let before = std::mem::take(&mut marks.0);
        let mut is_marked = false;
        for (name, id, mark) in next {
            let was = before.get(&id).copied().unwrap_or_default();
            if mark != was
                && let Some(endpoint) = self.feed.endpoints.get(&name)
            {
                if was.drain && !mark.drain {
                    endpoint.end_drain(now);
                }
                if was.maintenance && !mark.maintenance {
                    endpoint.end_maintenance(now);
                }
                mark.set(&endpoint, now);
                is_marked = true;
            }
            marks.0.insert(id, mark);
        }
        if is_marked && !is_new {
            self.feed.changed();
        }
    }
}

/// What the last good file said of who is out of service.
#[derive(Default)]
struct Marks(HashMap<EndpointId, Mark>);

/// What a file says of an endpoint that is no part of its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    drain: bool,
    maintenance: bool,
}

impl Mark {
    fn set(self, endpoint: &buttress_core::Endpoint, now: buttress_core::Timestamp) {
        if self.drain {
            endpoint.drain(now);
        }
        if self.maintenance {
            endpoint.maintain(now);
        }
    }
}

fn read(path: &Path) -> io::Result<Arc<[u8]>> {
    // Not opened first: to open a pipe waits for whoever writes it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let mut content = Vec::new();
    fs::File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MOST_BYTES {
        let message = format!("it has more than {MOST_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(content.into())
}
