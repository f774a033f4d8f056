//! HTTP requests: the head is cloned, the body is kept as it is read.

#[cfg(feature = "http")]
pub use over_http::RetrySafe;
#[cfg(feature = "http")]
use {super::ReplayPool, ::http::HeaderName};

/// Sends `http::Request`s again, with all that HTTP says about it: what `RetryLayer::default()` does. It needs the feature
/// `http`.
///
/// The head of a request is cloned (its fields, and its extensions); its body is kept as it is read, see
/// `ReplayBody`.
#[derive(Clone, Debug)]
pub struct Http {
    #[cfg(feature = "http")]
    pub(crate) limit: usize,
    #[cfg(feature = "http")]
    pub(crate) pool: ReplayPool,
    #[cfg(feature = "http")]
    pub(crate) attempt_header: Option<HeaderName>,
    #[cfg(feature = "http")]
    pub(crate) no_retry_header: Option<HeaderName>,
    #[cfg(not(feature = "http"))]
    _private: std::convert::Infallible,
}

#[cfg(feature = "http")]
mod over_http {
    use std::task::{Context, Poll};

    use buttress_core::{BoxError, EndpointId, Facts, HasFacts, Rejection, RejectionKind, Timestamp};
    use buttress_http::field::{self, NoRetry, Pushback};
    use http::header::{RETRY_AFTER, UPGRADE};
    use http::request::Parts;
    use http::{HeaderName, HeaderValue, Method, Request, Response};
    use http_body::Body;

    use super::Http;
    use crate::policy::{Sent, Skip};
    use crate::replay::body::Keep;
    use crate::replay::sealed::{Again, Note, Read, Stamp, Terms};
    use crate::replay::{Reads, Repeat, ReplayBody, ReplayPool};

    const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
    const GRPC_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
    const GRPC_PUSHBACK: &str = "grpc-retry-pushback-ms";

    /// Marks a request that may be carried out twice, although its method does not say so: put it into the extensions.
    ///
    /// ```
    /// use buttress_retry::RetrySafe;
    ///
    /// let mut search = http::Request::post("/search").body("{}").unwrap();
    /// search.extensions_mut().insert(RetrySafe);
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[expect(clippy::exhaustive_structs, reason = "a mark: there is nothing to add to it")]
    pub struct RetrySafe;

    /// What is kept of a request.
    #[derive(Debug)]
    #[expect(unnameable_types, reason = "the sealed trait of the ways to repeat passes it on")]
    pub struct Spare<B> {
        head: Parts,
        body: SpareBody<B>,
    }

    enum SpareBody<B> {
        Empty,
        Kept(Keep<B>),
    }

    impl<B> std::fmt::Debug for SpareBody<B> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(match self {
                Self::Empty => "Empty",
                Self::Kept(_) => "Kept",
            })
        }
    }

    impl Default for Http {
        fn default() -> Self {
            Self { limit: 64 << 10, pool: ReplayPool::default(), attempt_header: None, no_retry_header: None }
        }
    }

    impl<B> Repeat<Request<B>> for Http
    where
        B: Body + Unpin,
        B::Error: Into<BoxError>,
    {
        type Sent = Request<ReplayBody<B>>;
    }

    impl<B> Again<Request<B>> for Http
    where
        B: Body + Unpin,
        B::Error: Into<BoxError>,
    {
        type Sent = Request<ReplayBody<B>>;
        type Spare = Spare<B>;

        fn begin(&self, mut req: Request<B>, retries: bool, trail: bool) -> (Self::Sent, Terms<Spare<B>>) {
            let (attempt, deadline, marked) = match req.facts() {
                None => (1, Timestamp::MAX, false),
                Some(facts) => (facts.attempt, facts.deadline.unwrap_or(Timestamp::MAX), facts.no_retry),
            };
            let repeatable = req.method().is_idempotent()
                || req.headers().get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty())
                || req.extensions().get::<RetrySafe>().is_some();
            let never = if !retries {
                Some(Skip::Attempts)
            } else if marked {
                Some(Skip::Marked)
            } else if asks_for_a_tunnel(&req) {
                Some(Skip::Tunnel)
            } else if req.body().size_hint().lower() > self.limit as u64 {
                Some(Skip::BodyTooLarge)
            } else {
                None
            };
            let (sent, spare) = match never {
                Some(skip) => (req.map(ReplayBody::once), Err(skip)),
                None => {
                    if trail {
                        req.extensions_mut().get_or_insert_default::<Facts>().trail.get_or_insert_default();
                    }
                    self.keep(req)
                }
            };
            (sent, Terms { spare, repeatable, attempt, deadline })
        }

        fn sent(&self, spare: &Spare<B>) -> Sent {
            match &spare.body {
                SpareBody::Empty => Sent::All,
                SpareBody::Kept(keep) => keep.sent(),
            }
        }

        fn stop(&self, spare: &Spare<B>) -> bool {
            match &spare.body {
                SpareBody::Empty => true,
                SpareBody::Kept(keep) => keep.stop(),
            }
        }

        fn poll_back(&self, spare: &Spare<B>, cx: &Context<'_>) -> Poll<()> {
            match &spare.body {
                SpareBody::Empty => Poll::Ready(()),
                SpareBody::Kept(keep) => keep.poll_back(cx),
            }
        }

        fn again(&self, mut spare: Spare<B>, stamp: Stamp) -> Option<(Self::Sent, Option<Spare<B>>)> {
            let body = match &spare.body {
                SpareBody::Empty => ReplayBody::empty(),
                SpareBody::Kept(keep) => keep.again()?,
            };
            stamp.write(spare.head.extensions.get_or_insert_default::<Facts>());
            let fields = &mut spare.head.headers;
            if let Some(name) = &self.attempt_header {
                fields.insert(name, HeaderValue::from(stamp.attempt));
            }
            if field::is_grpc(fields) {
                fields.insert(GRPC_ATTEMPTS, HeaderValue::from(stamp.attempt - 1));
            }
            Some(if stamp.last {
                (Request::from_parts(spare.head, body), None)
            } else {
                (Request::from_parts(spare.head.clone(), body), Some(spare))
            })
        }
    }

    impl Http {
        fn keep<B>(&self, req: Request<B>) -> (Request<ReplayBody<B>>, Result<Spare<B>, Skip>)
        where
            B: Body,
        {
            let (head, body) = req.into_parts();
            let copy = head.clone();
            let (body, kept) = if body.is_end_stream() {
                (ReplayBody::once(body), SpareBody::Empty)
            } else {
                let (body, keep) = ReplayBody::kept(body, self.limit, &self.pool);
                (body, SpareBody::Kept(keep))
            };
            (Request::from_parts(head, body), Ok(Spare { head: copy, body: kept }))
        }
    }

    /// What runs in a tunnel cannot be taken back.
    fn asks_for_a_tunnel<B>(req: &Request<B>) -> bool {
        req.method() == Method::CONNECT || req.headers().contains_key(UPGRADE)
    }

    impl<B> Reads<Response<B>> for Http {}

    impl<B> Read<Response<B>> for Http {
        fn read(&self, res: &Response<B>) -> Note {
            let (fields, extensions) = (res.headers(), res.extensions());
            let refusal =
                extensions.get::<Rejection>().filter(|refusal| refusal.kind != RejectionKind::Timeout);
            let marked = extensions.get::<NoRetry>().is_some()
                || self.no_retry_header.as_ref().is_some_and(|name| fields.contains_key(name));
            let mut note = Note {
                refusal: refusal.map(|refusal| refusal.elsewhere),
                marked,
                pushback: None,
                malformed: [None; 2],
                tried: extensions.get::<EndpointId>().copied(),
            };
            match field::grpc_pushback(fields) {
                Some(Pushback::After(wait)) => note.pushback = Some(wait),
                Some(Pushback::Never) => note.marked = true,
                Some(_) => {
                    note.marked = true;
                    note.malformed[0] = Some(GRPC_PUSHBACK);
                }
                None => {}
            }
            if field::is_retry_after_malformed(fields) {
                note.malformed[1] = Some(RETRY_AFTER.as_str());
            }
            note
        }

        fn mark(&self, res: &mut Response<B>) {
            res.extensions_mut().insert(NoRetry);
            if let Some(name) = &self.no_retry_header {
                res.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
        }

        fn doubt(&self, res: &mut Response<B>) {
            if let Some(refusal) = res.extensions_mut().get_mut::<Rejection>() {
                refusal.maybe_sent = true;
            }
        }
    }
}
