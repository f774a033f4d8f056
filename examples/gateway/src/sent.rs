//! The body of a request, as an upstream gets it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress::retry::ReplayBody;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use tower::BoxError;

use crate::inbound::Inbound;

/// One type for all routes, whether or not they try again.
#[pin_project(project = SentProj)]
pub(crate) enum Sent {
    Once(#[pin] Inbound),
    Again(#[pin] ReplayBody<Inbound>),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            SentProj::Once(body) => body.poll_frame(cx),
            SentProj::Again(body) => body.poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Once(body) => body.is_end_stream(),
            Self::Again(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Once(body) => body.size_hint(),
            Self::Again(body) => body.size_hint(),
        }
    }
}
