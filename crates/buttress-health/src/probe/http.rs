use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{Endpoint, Name};
use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body::Body;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::dial::{Dial, Io, split};
use super::{Beat, Kept, Kind, Probe, Probed, Probing, Then, dialing};
use crate::{CheckError, Failure, HealthCheck, ProbeReport};

const IMMEDIATE_FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");
const DEGRADED: HeaderName = HeaderName::from_static("x-envoy-degraded");
const SERVICE: HeaderName = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");

/// The most that is read of a head. Hyper needs 8 KiB.
const MOST_HEAD: usize = 16 * 1024;
/// The most that is read of a body. Who sends more is judged by the head, and its connection is not kept.
const MOST_BODY: u64 = 64 * 1024;

/// A probe that asks for a page. See [`HealthCheck::http`].
#[derive(Clone, Debug)]
pub struct Http {
    pub(super) dial: Dial,
    path: String,
    method: Method,
    host: Option<String>,
    fields: Vec<(String, String)>,
    expected: Statuses,
    retriable: Statuses,
    service: Option<(String, String)>,
    reuse: bool,
}

#[derive(Clone, Debug)]
struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    fn has(&self, status: u16) -> bool {
        self.0.iter().any(|&(from, to)| (from..=to).contains(&status))
    }
}

impl HealthCheck<Http> {
    /// Probes by `GET path` over HTTP/1.1: a status of [`expected`](Self::expected) is a pass.
    ///
    /// | answer | finding |
    /// |---|---|
    /// | an expected status | a pass; with the field `x-envoy-degraded`, degraded |
    /// | a [retriable](Self::retriable) status | a failure, which counts |
    /// | any other status | a failure that decides at once, as Envoy has it |
    /// | the field `x-envoy-immediate-health-check-fail` | a failure that decides at once, whatever the status |
    /// | another [service](Self::service_name) | a failure that decides at once |
    /// | no connection, no answer in time, no HTTP | a failure, which counts |
    ///
    /// Redirects are not followed. A head is read up to 16 KiB and a body up to 64 KiB, so that a probe takes little
    /// memory whatever it is answered; a body has to end within the timeout, or to reach that bound.
    ///
    /// ```
    /// use buttress_health::HealthCheck;
    /// use std::time::Duration;
    ///
    /// let check = HealthCheck::http("/healthz").interval(Duration::from_secs(2)).expected(200..=299).retriable(503..=503);
    /// # check.rules().unwrap();
    /// ```
    #[must_use]
    pub fn http(path: impl Into<String>) -> Self {
        Self::of(Http {
            dial: Dial::default(),
            path: path.into(),
            method: Method::GET,
            host: None,
            fields: Vec::new(),
            expected: Statuses(Vec::new()),
            retriable: Statuses(Vec::new()),
            service: None,
            reuse: true,
        })
    }

    /// Statuses that are a pass, instead of 200 alone. Said again, these as well.
    #[must_use]
    pub fn expected(mut self, statuses: std::ops::RangeInclusive<u16>) -> Self {
        self.probe.expected.0.push(statuses.into_inner());
        self
    }

    /// Statuses whose failures count up to the threshold, as those to connect do. Every other unexpected status makes an
    /// endpoint unhealthy at once. Said again, these as well.
    #[must_use]
    pub fn retriable(mut self, statuses: std::ops::RangeInclusive<u16>) -> Self {
        self.probe.retriable.0.push(statuses.into_inner());
        self
    }

    /// Asks by `HEAD`.
    #[must_use]
    pub fn head(mut self) -> Self {
        self.probe.method = Method::HEAD;
        self
    }

    /// What the field `Host` says, instead of the endpoint's address.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.probe.host = Some(host.into());
        self
    }

    /// Sends this field too.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.probe.fields.push((name.into(), value.into()));
        self
    }

    /// Passes only when the answer's field `x-envoy-upstream-healthchecked-cluster` begins with this name: an address may
    /// be given to another service when one goes.
    #[must_use]
    pub fn service_name(self, name: impl Into<String>) -> Self {
        self.service_name_in(SERVICE.as_str(), name)
    }

    /// As [`service_name`](Self::service_name), in another field.
    #[must_use]
    pub fn service_name_in(mut self, field: impl Into<String>, name: impl Into<String>) -> Self {
        self.probe.service = Some((field.into(), name.into()));
        self
    }

    /// Whether a connection is kept for the next probe of its endpoint: true unless it is said.
    ///
    /// Without it each probe shows that the endpoint takes new connections, and costs one. A kept connection that is found
    /// closed is no failure: the probe connects anew. No more are kept than
    /// [`max_concurrent_probes`](Self::max_concurrent_probes).
    #[must_use]
    pub fn reuse_connection(mut self, reuse: bool) -> Self {
        self.probe.reuse = reuse;
        self
    }
}

dialing!(Http, tls, "http/1.1");

/// The probe as it was found to be right.
#[derive(Debug)]
struct Ready {
    dial: Dial,
    path: Uri,
    method: Method,
    host: Option<HeaderValue>,
    fields: Vec<(HeaderName, HeaderValue)>,
    expected: Statuses,
    retriable: Statuses,
    service: Option<(HeaderName, String)>,
    reuse: bool,
}

impl Kind for Http {
    fn into_probe(mut self) -> Result<Arc<dyn Probe>, CheckError> {
        if self.expected.0.is_empty() {
            self.expected.0.push((200, 200));
        }
        let name = |name: &str| {
            HeaderName::try_from(name)
                .map_err(|_| CheckError::new("header", name, "must be the name of a field"))
        };
        let value = |field, text: &str| {
            HeaderValue::try_from(text)
                .map_err(|_| CheckError::new(field, text, "must be the value of a field"))
        };
        let path = Uri::try_from(&self.path)
            .ok()
            .filter(|uri| uri.authority().is_none() && self.path.starts_with('/'));
        let fields = self.fields.iter().map(|(field, text)| Ok((name(field)?, value("header", text)?)));
        let statuses = [("expected", self.expected), ("retriable", self.retriable)];
        for (field, Statuses(statuses)) in &statuses {
            if let Some((from, to)) = statuses.iter().find(|(from, to)| from > to || *from < 100 || *to > 999)
            {
                return Err(CheckError::new(
                    field,
                    from..=to,
                    "must be statuses from 100 to 999, the lower first",
                ));
            }
        }
        let [(_, expected), (_, retriable)] = statuses;
        let rule = "must be a path with a slash in front, as in `/healthz`";
        Ok(Arc::new(Arc::new(Ready {
            path: path.ok_or_else(|| CheckError::new("path", &self.path, rule))?,
            method: self.method,
            host: self.host.map(|host| value("host", &host)).transpose()?,
            fields: fields.collect::<Result<_, _>>()?,
            expected,
            retriable,
            service: self.service.map(|(field, text)| Ok((name(&field)?, text))).transpose()?,
            reuse: self.reuse,
            dial: self.dial,
        })))
    }
}

impl Probe for Arc<Ready> {
    fn probe(&self, endpoint: &Endpoint, kept: Kept, _: &Beat) -> Probing {
        let (http, address) = (Self::clone(self), endpoint.address().clone());
        Box::pin(async move {
            let (report, kept) =
                http.ask(&address, kept).await.unwrap_or_else(|fail| (ProbeReport::fail(fail), None));
            Probed { report, kept, then: Then::Again }
        })
    }
}

impl Ready {
    async fn ask(&self, address: &Name, kept: Kept) -> Result<(ProbeReport, Kept), Failure> {
        let host = match &self.host {
            Some(host) => host.clone(),
            None => host_of(address.as_str()).ok_or(Failure::Address)?,
        };
        if let Some(mut link) = kept.and_then(|kept| kept.downcast::<Link>().ok())
            && link.is_open().await
            && let Ok(response) = link.send(self.request(&host)).await
        {
            return self.judge(link, response).await;
        }
        // None was kept, or it was closed, by time or by a restart, which says nothing of now.
        let mut link = Box::new(Link::new(self.dial.connect(address.as_str()).await?).await?);
        let response = link.send(self.request(&host)).await?;
        self.judge(link, response).await
    }

    fn request(&self, host: &HeaderValue) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static("buttress-health"));
        for (name, value) in &self.fields {
            headers.insert(name, value.clone());
        }
        request
    }

    async fn judge(
        &self,
        mut link: Box<Link>,
        response: Response<Incoming>,
    ) -> Result<(ProbeReport, Kept), Failure> {
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let is_ours = self.service.as_ref().is_none_or(|(field, name)| {
            head.headers.get(field).is_some_and(|value| value.as_bytes().starts_with(name.as_bytes()))
        });
        let report = if head.headers.contains_key(&IMMEDIATE_FAIL) {
            ProbeReport::fail(Failure::AsksToFail).at_once()
        } else if self.retriable.has(status) && !self.expected.has(status) {
            ProbeReport::fail(Failure::Status(status))
        } else if !self.expected.has(status) {
            ProbeReport::fail(Failure::Status(status)).at_once()
        } else if !is_ours {
            ProbeReport::fail(Failure::WrongService).at_once()
        } else if head.headers.contains_key(&DEGRADED) {
            ProbeReport::degraded()
        } else {
            ProbeReport::pass()
        };
        // A pass is a whole answer. The rest of one that fails is not waited for.
        let keeps = report.is_pass() && link.read(body).await? && self.reuse && link.is_open().await;
        Ok((report, if keeps { Some(link) } else { None }))
    }
}

/// What the field `Host` says of an address: without the scheme of a URL, and nothing of a socket's path.
fn host_of(address: &str) -> Option<HeaderValue> {
    if address.starts_with("unix:") {
        return Some(HeaderValue::from_static("localhost"));
    }
    let (host, port) = split(address)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let host = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    HeaderValue::try_from(host).ok()
}

/// A connection, driven while it is used and at no other time: between two probes it is no task and takes no turn.
struct Link {
    sender: SendRequest<Empty<Bytes>>,
    connection: Option<Pin<Box<Connection<TokioIo<Box<dyn Io>>, Empty<Bytes>>>>>,
}

impl Link {
    async fn new(stream: Box<dyn Io>) -> Result<Self, Failure> {
        let mut builder = Builder::new();
        builder.max_buf_size(MOST_HEAD).max_headers(128);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| why(&error))?;
        Ok(Self { sender, connection: Some(Box::pin(connection)) })
    }

    /// Lets the connection go on; afterwards it is there or not, by what came over it.
    fn drive(&mut self, cx: &mut Context<'_>) -> Option<Failure> {
        let Poll::Ready(end) = self.connection.as_mut()?.as_mut().poll(cx) else { return None };
        self.connection = None;
        Some(end.map_or_else(|error| why(&error), |()| Failure::Closed))
    }

    /// Whether it can take a request now. What came over it since it was last used is taken in first.
    async fn is_open(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            let _ = self.drive(cx);
            Poll::Ready(
                self.connection.is_some() && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(()))),
            )
        })
        .await
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let mut response = std::pin::pin!(self.sender.send_request(request));
        let mut end = None;
        std::future::poll_fn(|cx| {
            if let Some(connection) = &mut self.connection
                && let Poll::Ready(ended) = connection.as_mut().poll(cx)
            {
                self.connection = None;
                end = Some(ended.map_or_else(|error| why(&error), |()| Failure::Closed));
            }
            match response.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(response.map_err(|error| why_or(&error, end))),
                Poll::Pending => match end {
                    Some(failure) => Poll::Ready(Err(failure)),
                    None => Poll::Pending,
                },
            }
        })
        .await
    }

    /// Reads a body; whether it has come to its end, and not to the most that is read.
    async fn read(&mut self, mut body: Incoming) -> Result<bool, Failure> {
        let mut read = 0;
        loop {
            if body.is_end_stream() {
                return Ok(true);
            }
            let frame = std::future::poll_fn(|cx| {
                let end = self.drive(cx);
                match (Pin::new(&mut body).poll_frame(cx), end) {
                    (Poll::Pending, Some(failure)) => Poll::Ready(Some(Err(failure))),
                    (Poll::Pending, None) => Poll::Pending,
                    (Poll::Ready(frame), end) => {
                        Poll::Ready(frame.map(|frame| frame.map_err(|error| why_or(&error, end))))
                    }
                }
            });
            match frame.await {
                None => return Ok(true),
                Some(frame) => read += frame?.data_ref().map_or(0, |data| data.len() as u64),
            }
            if read > MOST_BODY {
                return Ok(false);
            }
        }
    }
}

/// What an error says, or that of the connection, where it says no more than that it has ended.
fn why_or(error: &hyper::Error, end: Option<Failure>) -> Failure {
    match why(error) {
        Failure::Closed => end.unwrap_or(Failure::Closed),
        failure => failure,
    }
}

/// What an error of hyper says of the endpoint.
fn why(error: &hyper::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return Failure::Io(io.kind());
        }
        source = inner.source();
    }
    if error.is_closed() || error.is_canceled() || error.is_incomplete_message() {
        Failure::Closed
    } else {
        Failure::Garbage
    }
}
