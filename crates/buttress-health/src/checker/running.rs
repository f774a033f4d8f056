//! Probes under way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress_core::{EndpointId, Sleep, Timestamp};
use futures_core::Stream;
use pin_project::pin_project;

use crate::policy::check::{Failure, ProbeReport};
use crate::probe::{Probed, Probing, Reports};

/// One probe of one endpoint, which ends at its timeout and survives a panic.
#[pin_project]
pub(super) struct Running {
    pub(super) asked: Asked,
    probing: Option<Probing>,
    #[pin]
    timeout: Sleep,
}

/// Which probe it is.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) id: EndpointId,
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) began: Timestamp,
}

impl Running {
    pub(super) fn new(asked: Asked, probing: Probing, timeout: Sleep) -> Self {
        Self { asked, probing: Some(probing), timeout }
    }
}

impl Future for Running {
    type Output = (Asked, Probed);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let probing = this.probing.as_mut().expect("it is not polled after its end");
        let probed = match catch_unwind(AssertUnwindSafe(|| probing.as_mut().poll(cx))) {
            Ok(Poll::Ready(probed)) => probed,
            Ok(Poll::Pending) => {
                std::task::ready!(this.timeout.poll(cx));
                ProbeReport::fail(Failure::Timeout).into()
            }
            Err(_) => ProbeReport::fail(Failure::Panicked).into(),
        };
        // What it holds ends now. That may be a user's code as well.
        let ended = this.probing.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(ended)));
        Poll::Ready((*this.asked, probed))
    }
}

/// What an endpoint tells by itself; the last of it is that it has ended.
pub(super) struct Telling {
    pub(super) asked: Asked,
    reports: Option<Reports>,
}

impl Telling {
    pub(super) const fn new(asked: Asked, reports: Reports) -> Self {
        Self { asked, reports: Some(reports) }
    }
}

impl Stream for Telling {
    type Item = (Asked, Option<ProbeReport>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let asked = self.asked;
        let Some(reports) = &mut self.reports else { return Poll::Ready(None) };
        let report = std::task::ready!(reports.as_mut().poll_next(cx));
        if report.is_none() {
            self.reports = None;
        }
        Poll::Ready(Some((asked, report)))
    }
}
