use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{HasFacts, Key};
use http::header::{TRAILER, UPGRADE};
use http::{Method, Request};
use http_body::Body;
use tower_service::Service;

use super::body::TeeBody;
use super::copy::Copy;
use super::event::NotMirrored;
use super::state::State;
use crate::NoKey;

/// Sends copies of requests to a second service. Made by [`MirrorLayer`](crate::MirrorLayer).
///
/// `poll_ready` and the response future are those of `S`: over [`OnCall`](buttress_core::OnCall), as the layer makes it, it
/// is always ready.
#[derive(Clone)]
pub struct Mirror<S, K = NoKey> {
    inner: S,
    key: K,
    state: Arc<State>,
}

impl<S, K> Mirror<S, K> {
    pub(super) const fn new(inner: S, key: K, state: Arc<State>) -> Self {
        Self { inner, key, state }
    }

    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Whether a copy of the request goes to the mirror, as far as its head tells.
    fn is_chosen<B>(&self, req: &Request<B>) -> bool
    where
        K: Key<Request<B>>,
    {
        let Self { state, key, .. } = self;
        // What is tried again has had its chance.
        let is_first = req.facts().is_none_or(|facts| facts.attempt <= 1);
        let is_meant = !state.rules.safe_only || req.method().is_safe();
        is_first
            && is_meant
            && state.samples(|| {
                let mut sink = state.rules.hashing.sink();
                key.key(req, &mut sink).then(|| sink.finish())
            })
    }

    /// The copy of a request, its body not yet in it, or why there is none.
    fn copy<B: Body>(&self, req: &Request<B>) -> Result<Copy, NotMirrored> {
        if *req.method() == Method::CONNECT || req.headers().contains_key(UPGRADE) {
            return Err(NotMirrored::Tunnel);
        }
        if req.body().size_hint().lower() > self.state.rules.body_limit as u64 {
            return Err(NotMirrored::TooLong);
        }
        let place = self.state.place().ok_or(NotMirrored::Full)?;
        let mut head = Request::new(());
        *head.method_mut() = req.method().clone();
        *head.uri_mut() = req.uri().clone();
        *head.version_mut() = req.version();
        *head.headers_mut() = req.headers().clone();
        *head.extensions_mut() = req.extensions().clone();
        Ok(Copy::new(head.into_parts().0, place))
    }
}

impl<S, K, B> Service<Request<B>> for Mirror<S, K>
where
    S: Service<Request<TeeBody<B>>>,
    K: Key<Request<B>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Request<B>) -> Self::Future {
        if !self.is_chosen(&req) {
            return self.inner.call(req.map(TeeBody::uncopied));
        }
        match self.copy(&req) {
            Err(reason) => {
                self.state.drops(reason);
                self.inner.call(req.map(TeeBody::uncopied))
            }
            Ok(mut copy) if req.body().is_end_stream() => {
                // The main service goes first, whatever becomes of the copy.
                let call = self.inner.call(req.map(TeeBody::uncopied));
                copy.send(None);
                call
            }
            Ok(copy) => {
                let trailers = req.headers().contains_key(TRAILER);
                self.inner.call(req.map(|body| TeeBody::copied(body, copy, trailers)))
            }
        }
    }
}

impl<S: fmt::Debug, K> fmt::Debug for Mirror<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("inner", &self.inner)
            .field("name", &self.state.rules.name)
            .finish_non_exhaustive()
    }
}
