use std::pin::Pin;
use std::task::{Context, Poll};

use buttress_http::body::ReplyBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project::pin_project;

use super::shared::Exchange;
#[cfg(feature = "http2")]
use super::streams::Told;

/// The body of an answer: the service's, or what the server itself refuses with.
#[pin_project]
pub(super) struct Reply<B> {
    #[pin]
    body: Kind<B>,
    #[cfg(feature = "http2")]
    told: Told,
    /// Ends with the body.
    _exchange: Exchange,
}

#[pin_project(project = KindProj)]
enum Kind<B> {
    Service(#[pin] B),
    Refusal(Refusal),
}

/// The few bytes of a refusal.
pub(super) struct Refusal(Option<Bytes>);

impl ReplyBody for Refusal {
    fn reply(bytes: Bytes) -> Self {
        Self(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl<B> Reply<B> {
    /// To be called by the task that will send it.
    pub(super) fn new(body: B, exchange: Exchange) -> Self {
        Self::of(Kind::Service(body), exchange)
    }

    pub(super) fn refusal(refusal: Refusal, exchange: Exchange) -> Self {
        Self::of(Kind::Refusal(refusal), exchange)
    }

    fn of(body: Kind<B>, exchange: Exchange) -> Self {
        #[cfg(feature = "http2")]
        let told = Told::of(exchange.shared());
        Self {
            body,
            #[cfg(feature = "http2")]
            told,
            _exchange: exchange,
        }
    }
}

impl<B: http_body::Body<Data = Bytes>> http_body::Body for Reply<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = match this.body.project() {
            KindProj::Service(body) => body.poll_frame(cx),
            KindProj::Refusal(refusal) => Poll::Ready(refusal.0.take().map(|bytes| Ok(Frame::data(bytes)))),
        };
        #[cfg(feature = "http2")]
        this.told.tell(matches!(frame, Poll::Ready(Some(Ok(_)))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kind::Service(body) => body.is_end_stream(),
            Kind::Refusal(refusal) => refusal.0.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Service(body) => body.size_hint(),
            Kind::Refusal(refusal) => {
                SizeHint::with_exact(refusal.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
