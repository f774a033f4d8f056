use std::cell::Cell;
use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;

use crate::service::{Fault, StrictService};
use crate::{BodyHandle, BoxError, ScriptedBody};

/// What is sent through the layer: [`Plain`] numbers or [`Http`] messages.
pub trait Exchange: Sized + 'static {
    /// What the layer's service takes.
    type Request: Send + 'static;
    /// What the inner service answers.
    type Reply: Answer<Self> + 'static;
    /// How the inner service fails.
    type Error: Fault;

    #[doc(hidden)]
    const HAS_BODY: bool;
    #[doc(hidden)]
    fn request(number: u32, shape: Shape) -> Self::Request;
    #[doc(hidden)]
    fn reply(request: Self::Request) -> Self::Reply;
}

/// The inner service that the layer wraps while it is examined.
pub type Inner<X> = StrictService<<X as Exchange>::Request, <X as Exchange>::Reply, <X as Exchange>::Error>;

/// Requests and replies are `u32`; a request is answered with its own number.
#[derive(Debug)]
pub struct Plain<E = BoxError>(PhantomData<E>);

/// Requests and replies are `http` messages with a [`ScriptedBody`].
///
/// Requests are `GET http://contract.test/<number>`, a different number for each call. Replies are `200` with
/// the number in the field `x-number`.
#[derive(Debug)]
pub struct Http<E = BoxError>(PhantomData<E>);

/// Which body the reply has.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// One frame, size known.
    Short,
    Empty,
    /// Two frames, size known.
    Two,
    /// Two frames and trailers, size unknown.
    Trailers,
    /// A frame, then nothing more comes.
    Stall,
    /// A frame, then an error.
    Error,
    /// A frame, then a panic.
    Panic,
    /// No body, and the status 101.
    Upgrade,
}

impl Shape {
    pub(super) const ALL: [Self; 8] = [
        Self::Short,
        Self::Empty,
        Self::Two,
        Self::Trailers,
        Self::Stall,
        Self::Error,
        Self::Panic,
        Self::Upgrade,
    ];
    /// Those whose body can be read to its end or error.
    pub(super) const READABLE: [Self; 6] =
        [Self::Short, Self::Empty, Self::Two, Self::Trailers, Self::Error, Self::Upgrade];

    pub(super) fn body(self) -> ScriptedBody {
        let first = Bytes::from_static(b"first ");
        let second = Bytes::from_static(b"second");
        match self {
            Self::Short => ScriptedBody::new().data(first),
            Self::Empty | Self::Upgrade => ScriptedBody::new(),
            Self::Panic => ScriptedBody::new().data(first).panic(),
            Self::Two => ScriptedBody::new().data(first).data(second),
            Self::Trailers => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-trailer", HeaderValue::from_static("kept"));
                ScriptedBody::new().data(first).data(second).trailers(trailers).chunked()
            }
            Self::Stall => ScriptedBody::new().data(first).stall().data(second),
            Self::Error => {
                ScriptedBody::new().data(first).error("the connection was reset, as scripted").chunked()
            }
        }
    }
}

impl<E: Fault> Exchange for Plain<E> {
    type Request = u32;
    type Reply = u32;
    type Error = E;

    const HAS_BODY: bool = false;

    fn request(number: u32, _: Shape) -> u32 {
        number
    }

    fn reply(request: u32) -> u32 {
        request
    }
}

impl<E: Fault> Exchange for Http<E> {
    type Request = Request<ScriptedBody>;
    type Reply = Response<ScriptedBody>;
    type Error = E;

    const HAS_BODY: bool = true;

    fn request(number: u32, shape: Shape) -> Self::Request {
        let mut request = Request::new(ScriptedBody::new());
        *request.uri_mut() =
            format!("http://contract.test/{number}").parse().expect("a number is a good path");
        request.extensions_mut().insert(shape);
        request
    }

    fn reply(request: Self::Request) -> Self::Reply {
        let number = request.uri().path().trim_start_matches('/').parse().unwrap_or(u32::MAX);
        let shape = request.extensions().get().copied().unwrap_or(Shape::Short);
        let body = shape.body();
        LAST_BODY.set(Some(body.handle()));
        let mut reply = Response::new(body);
        if shape == Shape::Upgrade {
            *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        // Room for the fields that a layer adds: a real response has some fields already.
        reply.headers_mut().reserve(16);
        reply.headers_mut().insert(NUMBER, HeaderValue::from(number));
        reply
    }
}

const NUMBER: &str = "x-number";

thread_local! {
    /// The body of the last reply: a scenario runs on one thread.
    static LAST_BODY: Cell<Option<BodyHandle>> = const { Cell::new(None) };
}

/// The handle of the body that was replied last.
pub(super) fn last_body() -> BodyHandle {
    LAST_BODY.take().unwrap_or_default()
}

/// What the layer answers with, in a form the suite can read: `u32`, or an `http::Response` of any body.
pub trait Answer<X>: Send {
    #[doc(hidden)]
    type Body: Body<Data: Buf, Error: Into<BoxError>> + Send;
    #[doc(hidden)]
    fn split(self) -> (Result<u32, String>, Self::Body);
}

impl<E: Fault> Answer<Plain<E>> for u32 {
    type Body = http_body_util::Empty<Bytes>;

    fn split(self) -> (Result<u32, String>, Self::Body) {
        (Ok(self), http_body_util::Empty::new())
    }
}

impl<B, E> Answer<Http<E>> for Response<B>
where
    E: Fault,
    B: Body<Data: Buf, Error: Into<BoxError>> + Send,
{
    type Body = B;

    fn split(self) -> (Result<u32, String>, B) {
        let number = self.headers().get(NUMBER).and_then(|value| value.to_str().ok()?.parse().ok());
        let status = self.status();
        (number.ok_or_else(|| format!("answered {status} in place of the inner service")), self.into_body())
    }
}
