use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::BoxError;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project::{pin_project, pinned_drop};

use crate::Error;
use crate::connection::Lease;
use crate::error::RequestBodyError;
use crate::expect::Gate;
use crate::io::Link;
use crate::policy::remove_hop_by_hop;
use crate::received::Received;

/// The body of an upstream's answer.
///
/// It holds the upstream connection. When the last frame has been read, the connection goes back to its pool; when it
/// is dropped before that, or fails, the connection is closed at once and the upstream sees it.
///
/// It reads from the upstream only as it is read itself, and keeps no more than one buffer
/// ([`Proxy::max_buffer`](crate::Proxy::max_buffer)). Sizes and trailers are the upstream's.
#[must_use = "bodies do nothing unless polled"]
pub struct Body {
    incoming: Received,
    lease: Option<Pin<Box<dyn Lease>>>,
    reusable: bool,
}

impl Body {
    pub(crate) fn new(incoming: Received, lease: Pin<Box<dyn Lease>>, reusable: bool) -> Self {
        let mut body = Self { incoming, lease: Some(lease), reusable };
        if http_body::Body::is_end_stream(&body.incoming) {
            body.complete();
        }
        body
    }

    /// The body of an answer that has none, and whose connection somebody else holds.
    pub(crate) fn of_none(incoming: Received) -> Self {
        Self { incoming, lease: None, reusable: false }
    }

    fn complete(&mut self) {
        if let Some(lease) = self.lease.take()
            && self.reusable
        {
            lease.check_in();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    remove_hop_by_hop(trailers);
                    self.complete();
                } else if http_body::Body::is_end_stream(&self.incoming) {
                    // Whoever reads by the length never asks for the frame after the last.
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let upstream = self.lease.take().and_then(|lease| lease.upstream());
                Poll::Ready(Some(Err(match upstream {
                    Some(upstream) => error.at(&upstream),
                    None => error,
                })))
            }
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size", &http_body::Body::size_hint(self)).finish_non_exhaustive()
    }
}

/// The body of the request on its way to the upstream.
#[pin_project(PinnedDrop)]
pub(crate) struct RequestBody<B> {
    #[pin]
    body: B,
    link: Option<Arc<Link>>,
    gate: Option<Box<Gate>>,
}

impl<B> RequestBody<B> {
    pub(crate) const fn new(body: B) -> Self {
        Self { body, link: None, gate: None }
    }

    /// Holds the body back until the upstream asks for it, where it is sent over HTTP/1.1.
    pub(crate) fn wait_for(&mut self, gate: Box<Gate>) {
        self.gate = Some(gate);
    }

    /// Tells the connection `link` from now on when the body has been let go.
    pub(crate) fn travel_on(&mut self, link: &Arc<Link>) {
        self.link = Some(link.clone());
        if let Some(gate) = &mut self.gate {
            gate.shut();
        }
    }
}

#[pinned_drop]
impl<B> PinnedDrop for RequestBody<B> {
    fn drop(self: Pin<&mut Self>) {
        // Hyper drops the body when it has put its last byte into the buffer, and when the connection is lost.
        if let Some(link) = self.project().link {
            link.set_request_done();
        }
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, RequestBodyError>>> {
        let this = self.project();
        if let Some(gate) = this.gate {
            std::task::ready!(gate.poll_open(cx));
            *this.gate = None;
        }
        let frame = std::task::ready!(this.body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| match frame {
            Ok(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    remove_hop_by_hop(trailers);
                }
                Ok(frame)
            }
            Err(error) => Err(RequestBodyError(error.into())),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
