use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{AtHead, Fail, HasFacts, Reject, RejectionKind, Timestamp};
use http::Request;
use tower_service::Service;

use super::layer::Settings;
use crate::call::Call;
use crate::policy::{Due, Meeting, Phase};
use crate::{DeadlineFuture, Reach, TimeoutEvent};

/// The service of [`DeadlineLayer`](crate::DeadlineLayer).
#[derive(Clone)]
pub struct Deadline<S, J = Fail, M = AtHead> {
    inner: S,
    settings: Arc<Settings>,
    reject: J,
    reach: M,
}

impl<S, J, M> Deadline<S, J, M> {
    pub(super) const fn new(inner: S, settings: Arc<Settings>, reject: J, reach: M) -> Self {
        Self { inner, settings, reject, reach }
    }

    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }
}

impl<S, J, M, B> Service<Request<B>> for Deadline<S, J, M>
where
    S: Service<Request<B>>,
    M: Reach<S::Response> + Clone,
    J: Reject<Request<B>, <M as Reach<S::Response>>::Out, S::Error> + Clone,
{
    type Response = <M as Reach<S::Response>>::Out;
    type Error = S::Error;
    type Future = DeadlineFuture<S, B, J, M>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let Settings { terms, shared, .. } = &*self.settings;
        let form = self.reject.form(&req);
        let (start, meeting) = self.settings.meet(&mut req);
        let deadline = match meeting {
            Meeting::Begin { deadline, .. } => deadline,
            Meeting::Endless => Timestamp::MAX,
            Meeting::TooLate { left } => {
                let watch = &shared.watch;
                watch.tell(|name| TimeoutEvent::BelowFloor { name, left, floor: terms.floor });
                let rejection = watch.rejection(RejectionKind::DeadlineExceeded);
                return DeadlineFuture::refused(self.reject.reject(form, rejection));
            }
        };
        let end = Due { since: start, at: deadline, by: Phase::Deadline };
        let call = Call { shared: shared.clone(), end };
        DeadlineFuture::called(self.inner.call(req), call, self.reject.clone(), form, self.reach.clone())
    }
}

impl Settings {
    /// Settles when the call has to be over, and tells the layers and the hops below. Also gives the present
    /// time, where it was needed.
    fn meet<B>(&self, req: &mut Request<B>) -> (Timestamp, Meeting) {
        let has_fields = self.fields.are_in(req.headers());
        let asked = if has_fields && self.trust {
            self.fields.read(req.headers(), |field| {
                self.shared.watch.tell(|name| TimeoutEvent::Malformed { name, field: field.as_str() });
            })
        } else {
            None
        };
        let known = req.facts().and_then(|facts| facts.deadline);
        let (now, meeting) = if asked.is_none() && known.is_none() && self.terms.is_endless() {
            (Timestamp::ZERO, Meeting::Endless)
        } else {
            let now = self.shared.watch.clock.now();
            (now, self.terms.meet(now, asked, known))
        };

        match meeting {
            Meeting::Begin { deadline, onward } => {
                if known != Some(deadline)
                    && let Some(facts) = req.facts_mut()
                {
                    facts.limit_deadline(deadline);
                }
                self.fields.write(req.headers_mut(), onward);
            }
            // What is left of them is malformed, endless, or not believed.
            Meeting::Endless if has_fields => self.fields.remove(req.headers_mut()),
            Meeting::Endless | Meeting::TooLate { .. } => {}
        }
        (now, meeting)
    }
}

impl<S: fmt::Debug, J, M> fmt::Debug for Deadline<S, J, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("inner", &self.inner)
            .field("terms", &self.settings.terms)
            .finish_non_exhaustive()
    }
}
