//! An upstream that plays a script, and notes what it got.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of it")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::{BoxError, Clock, EndpointId, Facts, HasFacts, NothingSent, Rejection, Timestamp};
use buttress_retry::{Backoff, Budget, ReplayBody, RetryEvent, RetryLayer};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneSyncService;

/// What the upstream does with one attempt.
pub enum Play {
    /// Reads the body and answers.
    Answer(Response<Full<Bytes>>),
    /// Answers without reading the body.
    Early(Response<Full<Bytes>>),
    /// Reads the body and fails.
    Fail(BoxError),
    /// Fails without reading the body.
    Drop(BoxError),
    /// Never answers.
    Hang,
}

/// What the upstream got of one attempt.
#[derive(Debug)]
pub struct Seen {
    pub at: Timestamp,
    pub head: http::request::Parts,
    pub facts: Option<Facts>,
    pub body: Result<Bytes, String>,
    pub trailers: Option<HeaderMap>,
}

#[derive(Clone)]
pub struct Log {
    clock: Clock,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Play>>>,
}

pub type Upstream<B> = BoxCloneSyncService<Request<ReplayBody<B>>, Response<Full<Bytes>>, BoxError>;

impl Log {
    pub fn new(script: impl IntoIterator<Item = Play>) -> Self {
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        Self { clock: Clock::tokio(), seen: Arc::default(), script }
    }

    pub fn upstream<B>(&self) -> Upstream<B>
    where
        B: Body<Error: Into<BoxError>> + Unpin + Send + Sync + 'static,
    {
        let log = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request| log.clone().attempt(request)))
    }

    async fn attempt<B>(self, request: Request<ReplayBody<B>>) -> Result<Response<Full<Bytes>>, BoxError>
    where
        B: Body<Error: Into<BoxError>> + Unpin + Send + Sync + 'static,
    {
        let play = self.script.lock().unwrap().pop_front();
        let play = play.unwrap_or_else(|| Play::Answer(answer(200)));
        let at = self.clock.now();
        let facts = request.facts().cloned();
        let (head, body) = request.into_parts();
        let (body, trailers) = match play {
            Play::Answer(_) | Play::Fail(_) | Play::Hang => match body.collect().await {
                Ok(read) => {
                    let trailers = read.trailers().cloned();
                    (Ok(read.to_bytes()), trailers)
                }
                Err(error) => (Err(error.to_string()), None),
            },
            Play::Early(_) | Play::Drop(_) => (Ok(Bytes::new()), None),
        };
        let failed = body.is_err();
        self.seen.lock().unwrap().push(Seen { at, head, facts, body, trailers });
        match play {
            _ if failed => Err("the body of the request failed".into()),
            Play::Answer(answer) | Play::Early(answer) => Ok(answer),
            Play::Fail(error) | Play::Drop(error) => Err(error),
            Play::Hang => std::future::pending().await,
        }
    }

    pub fn attempts(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The times between attempts.
    pub fn waits(&self) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
    }
}

pub fn answer(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from("an answer")).unwrap()
}

pub fn answer_with(status: u16, fields: &[(&str, &str)]) -> Response<Full<Bytes>> {
    let mut response = answer(status);
    for (name, value) in fields {
        let name: http::HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

pub fn refusal(rejection: Rejection) -> Response<Full<Bytes>> {
    let mut response = answer(503);
    response.extensions_mut().insert(rejection);
    response
}

pub fn from_endpoint(status: u16, id: u64) -> Response<Full<Bytes>> {
    let mut response = answer(status);
    response.extensions_mut().insert(EndpointId::new(id));
    response
}

pub fn unsent() -> BoxError {
    NothingSent::new("connection refused").into()
}

/// The default layer on tokio's time, without waits, for as many retries as the test makes.
pub fn layer() -> RetryLayer {
    RetryLayer::default()
        .clock(Clock::tokio())
        .backoff(Backoff::constant(Duration::ZERO))
        .budget(Budget::unlimited())
}

pub fn get() -> Request<Full<Bytes>> {
    Request::get("http://upstream.test/").body(Full::default()).unwrap()
}

pub fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("http://upstream.test/").body(Full::new(body.into())).unwrap()
}

pub fn put(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::put("http://upstream.test/").body(Full::new(body.into())).unwrap()
}

/// What a layer tells, as text.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    pub fn observer(&self) -> impl Fn(&RetryEvent<'_>) + Send + Sync + 'static + use<> {
        let told = self.0.clone();
        move |event| {
            let line = match event {
                RetryEvent::Retrying { attempt, delay, .. } => format!("attempt {attempt} in {delay:?}"),
                RetryEvent::Skipped { attempts, reason, .. } => format!("{reason} after {attempts}"),
                RetryEvent::Recovered { attempts, .. } => format!("recovered after {attempts}"),
                RetryEvent::Malformed { field, .. } => format!("malformed {field}"),
                other => format!("{other:?}"),
            };
            told.lock().unwrap().push(line);
        }
    }

    pub fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}
