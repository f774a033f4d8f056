use std::borrow::Cow;

use buttress_core::Name;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Map, Value};

use crate::body::ReplyBody;
use crate::field;
use crate::grpc::{self, Code, Pushback};

/// A problem told to a client: `application/problem+json` (RFC 9457).
///
/// ```
/// use buttress_http::Problem;
/// use http::StatusCode;
///
/// let problem = Problem::new(StatusCode::BAD_GATEWAY).with_detail("the payment service does not answer");
/// assert_eq!(problem.title(), "Bad Gateway");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    kind: Cow<'static, str>,
    title: Cow<'static, str>,
    detail: Option<Cow<'static, str>>,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem of which the status says all: type `about:blank`, titled with the status' phrase.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        let title = Cow::Borrowed(status.canonical_reason().unwrap_or("Error"));
        Self { status, kind: Cow::Borrowed("about:blank"), title, detail: None, members: Map::new() }
    }

    /// Names the type of the problem by its URI, and says in words what all problems of the type have in common.
    #[must_use]
    pub fn with_type(
        mut self,
        uri: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.kind = uri.into();
        self.title = title.into();
        self
    }

    /// Says what went wrong this time, for the client's developers. Everybody can read it.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a member beside those of RFC 9457.
    ///
    /// # Panics
    ///
    /// When `name` is one of those: `type`, `title`, `status` or `detail`.
    #[must_use]
    pub fn with_member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let name = name.into();
        let taken = matches!(name.as_str(), "type" | "title" | "status" | "detail");
        assert!(!taken, "`{name}` is a member that RFC 9457 defines: it has a method of its own");
        self.members.insert(name, value.into());
        self
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The title.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The problem as a response, in the form that the request asks for; never stored by caches.
    #[must_use]
    pub fn reply<B: ReplyBody>(&self, form: Form) -> Response<B> {
        self.reply_with(form, Pushback::Unknown, &[])
    }

    /// The same with the names of the policies that were violated, as the last member.
    pub(crate) fn reply_with<B: ReplyBody>(
        &self,
        form: Form,
        pushback: Pushback,
        violated: &[&[Name]],
    ) -> Response<B> {
        if form.grpc { self.grpc_reply(pushback) } else { self.http_reply(form, violated) }
    }

    fn http_reply<B: ReplyBody>(&self, form: Form, violated: &[&[Name]]) -> Response<B> {
        let json = self.to_json(violated);
        let length = json.len();
        let mut response = Response::new(B::reply(if form.head { Bytes::new() } else { json }));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if form.head {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }

    fn grpc_reply<B: ReplyBody>(&self, pushback: Pushback) -> Response<B> {
        let mut response = Response::new(B::reply(Bytes::new()));
        let (code, message) = self.grpc_status();
        grpc::write_reply(code, message, pushback, response.headers_mut());
        response
    }

    /// What gRPC calls the status.
    pub(crate) fn grpc_status(&self) -> (Code, &str) {
        (Code::of_status(self.status), self.detail.as_ref().unwrap_or(&self.title))
    }

    fn to_json(&self, violated: &[&[Name]]) -> Bytes {
        let violated = || violated.iter().copied().flatten();
        // Room for all of it, where nothing is escaped and there are no members but ours.
        let names: usize = violated().map(|name| name.len() + 3).sum();
        let texts = self.kind.len() + self.title.len() + self.detail.as_deref().map_or(0, str::len);
        let mut json = Json(Vec::with_capacity(96 + texts + names));
        json.text(r#"{"type":"#);
        json.string(&self.kind);
        json.text(r#","title":"#);
        json.string(&self.title);
        json.text(r#","status":"#);
        json.text(self.status.as_str());
        if let Some(detail) = &self.detail {
            json.text(r#","detail":"#);
            json.string(detail);
        }
        for (name, value) in &self.members {
            json.text(",");
            json.string(name);
            json.text(":");
            json.value(value);
        }
        for (at, name) in violated().enumerate() {
            json.text(if at == 0 { r#","violated-policies":["# } else { "," });
            json.string(name);
        }
        if violated().next().is_some() {
            json.text("]");
        }
        json.text("}");
        json.0.into()
    }
}

/// Writes JSON. The few members of a problem are soon written by hand, and stand on every refusal.
struct Json(Vec<u8>);

impl Json {
    /// Writes `text` as it is.
    #[inline]
    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        // No early return, so that it is done in wide steps.
        let mut escaped = false;
        for &byte in text.as_bytes() {
            escaped |= byte < b' ' || byte == b'"' || byte == b'\\';
        }
        if escaped {
            return self.value(&Value::from(text));
        }
        self.text("\"");
        self.text(text);
        self.text("\"");
    }

    fn value(&mut self, value: &Value) {
        serde_json::to_writer(&mut self.0, value).expect("a JSON value is written into memory");
    }
}

/// The form of a reply, read from the request before the inner service takes it.
///
/// A gRPC request is answered with status 200, a `grpc-status` and no message; HEAD with the head that GET would
/// get; everything else with `application/problem+json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    grpc: bool,
    head: bool,
}

impl Form {
    /// The form that `request` asks for.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self { grpc: field::is_grpc(request.headers()), head: request.method() == Method::HEAD }
    }

    pub(crate) const fn is_grpc(self) -> bool {
        self.grpc
    }
}
