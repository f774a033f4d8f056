//! The tunnels that `CONNECT` opens.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use buttress_http::body::UntilUpgradeEnds;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Draining;
use crate::connection::Permit;
use crate::tunnel::{Limits, tunnel};

/// What a tunnel needs to begin, once the server has written the answer.
pub(super) struct Opening {
    pub(super) client: OnUpgrade,
    pub(super) upstream: TcpStream,
    pub(super) draining: Option<Draining>,
    pub(super) permit: Permit,
    pub(super) limits: Limits,
}

impl Opening {
    /// Carries the bytes by a task of its own. What layers above hold for the call lasts as long as the tunnel.
    pub(super) fn spawn(self) -> UntilUpgradeEnds {
        let until = UntilUpgradeEnds::new();
        let held = (self.permit, until.clone());
        let Self { client, upstream, draining, limits, .. } = self;
        tokio::spawn(async move {
            // An answer that is never written, since a layer above has replaced it, is waited for no longer than a
            // tunnel in which nothing moves.
            let (mut client, mut alarm) = (pin!(client), pin!(limits.clock.sleep(limits.idle_timeout)));
            let client = poll_fn(|cx| match client.as_mut().poll(cx) {
                Poll::Ready(client) => Poll::Ready(client.ok()),
                Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
            });
            if let Some(client) = client.await {
                tunnel(TokioIo::new(client), upstream, &limits, draining).await;
            }
            drop(held);
        });
        until
    }
}
