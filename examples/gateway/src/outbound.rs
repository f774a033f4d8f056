//! The body of an answer, as the server gets it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress::body::ReplyBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use tower::BoxError;

/// One type for all routes: as their layers gave it, or in a box where something was put around it.
#[pin_project(project = OutboundProj)]
pub(crate) enum Outbound<B> {
    AsItCame(#[pin] B),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

impl<B> Outbound<B> {
    /// A body that something was put around.
    pub(crate) fn boxed<A>(body: A) -> Self
    where
        A: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self::Boxed(body.map_err(Into::into).boxed_unsync())
    }
}

/// Nothing: the answer to a preflight.
impl<B> Default for Outbound<B> {
    fn default() -> Self {
        Self::boxed(Full::default())
    }
}

impl<B: ReplyBody> ReplyBody for Outbound<B> {
    fn reply(bytes: Bytes) -> Self {
        Self::AsItCame(B::reply(bytes))
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> Body for Outbound<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            OutboundProj::AsItCame(body) => body.poll_frame(cx).map_err(Into::into),
            OutboundProj::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::AsItCame(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::AsItCame(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}
