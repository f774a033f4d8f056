//! The body of a client's request, as the layers get it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress::{proxy::server, route::PeekBody};
use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, SizeHint};
use tower::BoxError;

use crate::access_log::Call;

/// One type for all routes: as it came, or in a box where something had to be put around it.
#[derive(Debug)]
pub(crate) enum Inbound {
    AsItCame(server::Body),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
    /// As it came, and the access log is told how much.
    Counted(server::Body, Arc<Call>),
}

impl Inbound {
    /// The same, which tells `call` of its bytes.
    pub(crate) fn counted(self, call: &Arc<Call>) -> Self {
        match self {
            Self::AsItCame(body) => Self::Counted(body, Arc::clone(call)),
            other => other,
        }
    }

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

impl From<server::Body> for Inbound {
    fn from(body: server::Body) -> Self {
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
            Self::Counted(body, call) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                    call.took(data.len() as u64);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::AsItCame(body) | Self::Counted(body, _) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::AsItCame(body) | Self::Counted(body, _) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}
