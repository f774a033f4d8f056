use buttress_core::BoxError;
use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::Body;

/// What a [`Server`](super::Server) serves: any Tower service from `Request<server::Body>` to a response.
///
/// It is implemented for all of them, and there is nothing to implement. An axum `Router` is one, a
/// [`Proxy<server::Body>`](crate::Proxy) below `answer_errors` another. Each connection has a clone. Where the service
/// fails, the HTTP/1 connection is closed without an answer and the HTTP/2 stream is reset: answer errors above, so that
/// clients see what happened.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served",
    label = "this is no service that a server can call",
    note = "it must be a `tower::Service<Request<buttress_proxy::server::Body>>` that is `Clone + Send + 'static`",
    note = "its response must have a body with `Data = Bytes` that is `Send + 'static`, its future must be `Send + 'static`",
    note = "and its error must convert to `Box<dyn Error + Send + Sync>`"
)]
pub trait Handler:
    Service<Request<Body>, Response = Response<Self::Reply>, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
    /// The body of its responses.
    type Reply: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> Handler for S
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Reply = B;
}
