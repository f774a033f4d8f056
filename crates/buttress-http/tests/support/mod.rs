//! What the body tests share: a guard that writes down what it is told, and a body that does as it is told.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this")]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use buttress_core::{End, Finish, Guard};
use buttress_http::body::{AtEnd, Tracked};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, error::TryRecvError, unbounded_channel};

/// How a guard was told its call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Head,
    Complete,
    Trailers(HeaderMap),
    Aborted,
    Failed,
    /// It was dropped without a word.
    Dropped,
}

/// A guard that sends what it is told, and its channel closes when it is dropped.
pub struct Recorder {
    to: UnboundedSender<Told>,
    told: bool,
}

impl Guard for Recorder {
    fn end(&mut self, end: &End<'_>) {
        self.told = true;
        let _ = self.to.send(match end {
            End::Head => Told::Head,
            End::Complete { trailers: None } => Told::Complete,
            End::Complete { trailers: Some(trailers) } => Told::Trailers((*trailers).clone()),
            End::Aborted => Told::Aborted,
            End::Failed => Told::Failed,
            _ => unreachable!("a new kind of end"),
        });
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.told {
            let _ = self.to.send(Told::Dropped);
        }
    }
}

/// Reads what the [`Recorder`] was told.
pub struct Record(UnboundedReceiver<Told>);

impl Record {
    /// Waits until the guard is gone, and gives all it was told.
    pub async fn all(mut self) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(told) = self.0.recv().await {
            all.push(told);
        }
        all
    }

    /// All it was told, if it is gone by now.
    pub fn so_far(&mut self) -> Option<Vec<Told>> {
        let mut all = Vec::new();
        loop {
            match self.0.try_recv() {
                Ok(told) => all.push(told),
                Err(TryRecvError::Disconnected) => return Some(all),
                Err(TryRecvError::Empty) => {
                    assert!(all.is_empty(), "told {all:?}, but not dropped at once");
                    return None;
                }
            }
        }
    }

    /// Whether the guard is still held, untold.
    pub fn is_held(&mut self) -> bool {
        self.so_far().is_none()
    }
}

pub fn recorder() -> (Recorder, Record) {
    let (to, from) = unbounded_channel();
    (Recorder { to, told: false }, Record(from))
}

/// Follows a response to a request of this method to its end, as a layer does.
pub fn finish<B: Body>(
    method: &Method,
    response: Response<B>,
    guard: Recorder,
) -> Response<Tracked<B, Recorder>> {
    fn through<F: Finish<Request<()>, Res, Recorder>, Res>(
        finish: &F,
        request: &Request<()>,
        response: Res,
        guard: Recorder,
    ) -> F::Out {
        finish.finish(finish.form(request), response, guard)
    }
    let request = Request::builder().method(method).uri("a.example:80").body(()).unwrap();
    through(&AtEnd, &request, response, guard)
}

/// One step of a [`Scripted`] body.
#[derive(Clone, Debug)]
pub enum Step {
    Data(&'static str),
    Trailers(&'static str),
    /// Not ready, now and ever.
    Stall,
    Fail,
    Panic,
    /// Not ready until it is opened.
    Gate(Gate),
}

/// Holds a body up.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<(bool, Option<Waker>)>>);

impl Gate {
    pub fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.0 = true;
        gate.1.take().into_iter().for_each(Waker::wake);
    }

    fn is_open(&self, cx: &Context<'_>) -> bool {
        let mut gate = self.0.lock().unwrap();
        gate.1 = Some(cx.waker().clone());
        gate.0
    }
}

/// A body that goes through its steps, and then ends.
#[derive(Clone, Debug, Default)]
pub struct Scripted {
    steps: VecDeque<Step>,
    exact: Option<u64>,
    says_end: bool,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the body broke off")]
pub struct Broken;

pub fn body<const N: usize>(steps: [Step; N]) -> Scripted {
    Scripted { steps: steps.into(), ..Scripted::default() }
}

impl Scripted {
    /// Reports this length as its exact size.
    pub fn exact(mut self, length: u64) -> Self {
        self.exact = Some(length);
        self
    }

    /// Says `is_end_stream()` as soon as the last step is done.
    pub fn says_end(mut self) -> Self {
        self.says_end = true;
        self
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(Step::Gate(gate)) = self.steps.front() {
            if !gate.is_open(cx) {
                return Poll::Pending;
            }
            self.steps.pop_front();
        }
        Poll::Ready(match self.steps.pop_front() {
            None => None,
            Some(Step::Data(text)) => {
                if let Some(exact) = &mut self.exact {
                    *exact = exact.saturating_sub(text.len() as u64);
                }
                Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
            }
            Some(Step::Trailers(value)) => Some(Ok(Frame::trailers(trailers(value)))),
            Some(Step::Fail) => Some(Err(Broken)),
            Some(Step::Panic) => panic!("the body panics, as it was told"),
            Some(Step::Gate(_)) => unreachable!("one gate follows another"),
            Some(Step::Stall) => {
                self.steps.push_front(Step::Stall);
                return Poll::Pending;
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.says_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Trailers with one field, `x-end`.
pub fn trailers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-end"), http::HeaderValue::from_static(value))])
}
