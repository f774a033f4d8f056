//! The body of a client's request, as the layers get it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress::route::PeekBody;
use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tower::BoxError;

/// One type for all routes: as it came, or in a box where something had to be put around it.
#[derive(Debug)]
pub(crate) enum Inbound {
    AsItCame(Incoming),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Inbound {
    /// A body that something was put around.
    pub(crate) fn boxed<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self::Boxed(body.map_err(Into::into).boxed_unsync())
    }

    /// A body that the router may have looked into.
    pub(crate) fn peeked(body: PeekBody<Self>) -> Self {
        Self::boxed(body)
    }
}

impl From<Incoming> for Inbound {
    fn from(body: Incoming) -> Self {
        Self::AsItCame(body)
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::AsItCame(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Boxed(body) => Pin::new(body).poll_frame(cx),
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
