use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use buttress_http::body::ReplyBody;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;

/// Answers every request with one response: a `robots.txt`, a page for what is closed, a status.
///
/// To HEAD it sends the same head without the body.
///
/// ```
/// use buttress_route::Fixed;
/// use http::{HeaderValue, StatusCode, header};
///
/// let robots = Fixed::new(StatusCode::OK)
///     .header(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"))
///     .body(HeaderValue::from_static("text/plain"), "User-agent: *\nDisallow: /\n");
/// # let _ = robots;
/// ```
#[derive(Clone, Debug)]
pub struct Fixed {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Fixed {
    /// Answers with this status, and no body.
    ///
    /// # Panics
    ///
    /// When the status is below 200: that is not the end of an answer.
    #[must_use]
    #[track_caller]
    pub fn new(status: StatusCode) -> Self {
        assert!(!status.is_informational(), "status {status}: an answer has a status of 200 or above");
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Adds a line of a header field.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Answers with this body.
    ///
    /// # Panics
    ///
    /// When the status is 204 or 304: these answers have none.
    #[must_use]
    #[track_caller]
    pub fn body(mut self, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        let bare = matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        assert!(!bare, "status {}: such an answer has no body", self.status);
        self.headers.insert(CONTENT_TYPE, content_type);
        self.body = body.into();
        self
    }

    pub(crate) fn respond<R: ReplyBody>(&self, method: &Method) -> Response<R> {
        let head = *method == Method::HEAD;
        let mut response = Response::new(R::reply(if head { Bytes::new() } else { self.body.clone() }));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        if head && !self.body.is_empty() {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        response
    }
}

impl<B> Service<Request<B>> for Fixed {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.respond(request.method())))
    }
}
