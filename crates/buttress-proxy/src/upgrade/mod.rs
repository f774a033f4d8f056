//! Connections that go on in another protocol (RFC 9110 §7.8): what is offered, what is taken, and the tunnel after it.

#[cfg(feature = "http2")]
mod http2;
#[cfg(not(feature = "http2"))]
#[path = "http1_only.rs"]
mod http2;
mod websocket;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{Clock, draw};
use buttress_http::body::UntilUpgradeEnds;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Method, Request, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

pub(crate) use self::http2::make_get;
use self::http2::{accept, make_ok};
use crate::connection::Lease;
use crate::error::Unusable;
use crate::policy::split;
use crate::received::Received;
use crate::tunnel::{Limits, tunnel};
use crate::{Body, Draining, Proxy};

/// Which protocols a client may ask for in place of HTTP/1.1.
///
/// What passes through such a tunnel is looked at by nothing: no route, no limit and no log sees a message in it. So it
/// is opened for protocols that were named, and never for one that is HTTP again (`h2c`, `HTTP/2.0`), by which a client
/// would get past all of these, nor for `TLS/1.2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Upgrades {
    /// None: a request for another protocol gets the upstream's ordinary answer.
    None,
    /// WebSocket (RFC 6455): the default.
    #[default]
    WebSocket,
    /// Whatever is asked for, but HTTP and TLS.
    Any,
}

impl Upgrades {
    /// What of a request's `Upgrade` is sent on.
    pub(crate) fn offered(self, method: &Method, fields: &HeaderMap) -> Option<HeaderValue> {
        let mut offered = None;
        for protocol in fields.get_all(UPGRADE).into_iter().flat_map(split) {
            if !self.allows(method, protocol) {
                continue;
            }
            offered = match offered {
                None => HeaderValue::from_bytes(protocol).ok(),
                Some(before) => HeaderValue::from_bytes(&[before.as_bytes(), b", ", protocol].concat())
                    .ok()
                    .or(Some(before)),
            };
        }
        offered
    }

    fn allows(self, method: &Method, protocol: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::WebSocket => is_websocket(protocol) && *method == Method::GET,
            Self::Any => {
                let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
                ![&b"h2"[..], b"h2c", b"http", b"tls"].iter().any(|own| name.eq_ignore_ascii_case(own))
            }
        }
    }
}

fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}

/// Which tunnels are opened, and how long they last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) allowed: Upgrades,
    idle_timeout: Duration,
    grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allowed: Upgrades::default(),
            idle_timeout: Duration::from_secs(300),
            grace: Duration::from_secs(30),
        }
    }
}

/// What becomes of requests for another protocol.
///
/// The upgrade is offered to the upstream. When it answers 101, so does the proxy, and from then on bytes are carried
/// both ways; every other answer is handed on as it is. The server in front must give its connections away
/// (`with_upgrades` of hyper); where it does not, and over HTTP/2, an upgrade is not offered.
///
/// A tunnel is carried by a task of its own. It keeps its place among the open connections, and what a layer above
/// holds until the call is over, until the tunnel ends
/// ([`UntilUpgradeEnds`]): a breaker or a balancer that follows bodies sees the call end with the tunnel, one that does
/// not sees it end with the 101.
impl<B> Proxy<B> {
    /// Which protocols a client may ask for. Default: [`Upgrades::WebSocket`].
    #[must_use]
    pub fn upgrades(self, allowed: Upgrades) -> Self {
        self.with(|options| options.upgrade.allowed = allowed)
    }

    /// Ends a tunnel in which no byte has moved either way for `timeout`. Default: 5 minutes, since a WebSocket that
    /// lives sends a ping at least every minute; [`Duration::MAX`] is for ever.
    ///
    /// # Panics
    ///
    /// When `timeout` is zero: nothing could pass.
    #[must_use]
    pub fn tunnel_idle_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "tunnel_idle_timeout must be longer than zero");
        self.with(|options| options.upgrade.idle_timeout = timeout)
    }

    /// How long a tunnel may go on after the server has begun to drain. Default: 30 s.
    ///
    /// The server says so by the request's extension [`Draining`]. A WebSocket is then ended in order: as soon as a
    /// frame may begin, both sides get a Close with 1001, and have this long to answer it. Other protocols have this
    /// long to come to their end.
    #[must_use]
    pub fn tunnel_grace(self, grace: Duration) -> Self {
        self.with(|options| options.upgrade.grace = grace)
    }
}

/// What a client would go on in.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) offered: HeaderValue,
    /// It was asked for by an extended CONNECT.
    pub(crate) extended: bool,
}

/// The wish of a client whose request is under way to go on in another protocol.
#[derive(Debug)]
pub(crate) struct Asked {
    offered: HeaderValue,
    /// What the upstream must prove, where the client has asked by HTTP/2.
    accept: Option<HeaderValue>,
    client: OnUpgrade,
    draining: Option<Draining>,
}

impl Asked {
    /// Writes what is offered into a request that is sent on. `None` where its server has no connection to give away.
    pub(crate) fn offer<B>(request: &mut Request<B>, wish: Wish) -> Option<Box<Self>> {
        let Wish { offered, extended } = wish;
        let client = request.extensions_mut().remove::<OnUpgrade>()?;
        let accept = if extended { accept(request.headers()) } else { None };
        let draining = request.extensions().get::<Draining>().cloned();
        let fields = request.headers_mut();
        let named = if fields.contains_key(CONNECTION) { "te, upgrade" } else { "upgrade" };
        fields.insert(CONNECTION, HeaderValue::from_static(named));
        fields.insert(UPGRADE, offered.clone());
        Some(Box::new(Self { offered, accept, client, draining }))
    }

    /// Whether a 2xx would tell the client that its tunnel is open.
    pub(crate) const fn is_extended(&self) -> bool {
        self.accept.is_some()
    }

    /// Makes of a 101 the answer that the client gets, unless it is not one to what was asked for.
    pub(crate) fn taken<B>(
        &self,
        response: &mut Response<B>,
        protocol: Option<HeaderValue>,
    ) -> Result<HeaderValue, Unusable> {
        let protocol = protocol.ok_or(Unusable::Protocol)?;
        let is_offered =
            |taken: &[u8]| split(&self.offered).any(|offered| offered.eq_ignore_ascii_case(taken));
        if split(&protocol).count() == 0 || !split(&protocol).all(is_offered) {
            return Err(Unusable::Protocol);
        }
        match &self.accept {
            Some(accept) => make_ok(response, accept)?,
            None => {
                let fields = response.headers_mut();
                fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                fields.insert(UPGRADE, protocol.clone());
            }
        }
        Ok(protocol)
    }

    /// Answers, and joins the two connections when the server has written the answer.
    pub(crate) fn open(
        self: Box<Self>,
        mut response: Response<Received>,
        protocol: &HeaderValue,
        connection: Pin<Box<dyn Lease>>,
        clock: &Clock,
        options: Options,
    ) -> Response<Body> {
        let upstream = hyper::upgrade::on(&mut response);
        let until = UntilUpgradeEnds::new();
        response.extensions_mut().insert(until.clone());
        let websocket = split(protocol).any(is_websocket);

        let limits =
            Limits { clock: clock.clone(), idle_timeout: options.idle_timeout, grace: options.grace };
        let joined = async move {
            // Dropped when the tunnel is over: the place among the open connections, and the guards of the call.
            let held = (connection, until);
            if let Some((client, upstream)) = both(self.client, upstream, &limits).await {
                join(client, upstream, &limits, self.draining, websocket).await;
            }
            drop(held);
        };
        tokio::spawn(joined);
        response.map(Body::of_none)
    }
}

/// Both connections, once each has ended its HTTP. A client whose 101 is never written, since a layer above has
/// answered something else or it has gone, is waited for no longer than for a tunnel in which nothing moves.
async fn both(client: OnUpgrade, upstream: OnUpgrade, limits: &Limits) -> Option<(Upgraded, Upgraded)> {
    let both = async { Some((client.await.ok()?, upstream.await.ok()?)) };
    let (mut both, mut alarm) = (pin!(both), pin!(limits.clock.sleep(limits.idle_timeout)));
    poll_fn(|cx| match both.as_mut().poll(cx) {
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
        ready => ready,
    })
    .await
}

async fn join(
    client: Upgraded,
    upstream: Upgraded,
    limits: &Limits,
    draining: Option<Draining>,
    websocket: bool,
) {
    let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    let ended = match draining {
        Some(draining) if websocket => {
            let mask = (draw() as u32).to_ne_bytes();
            let side = websocket::Side::new;
            let client = side(client, websocket::To::Upstream, draining.clone(), mask);
            let upstream = side(upstream, websocket::To::Client, draining.clone(), mask);
            tunnel(client, upstream, limits, Some(draining)).await
        }
        draining => tunnel(client, upstream, limits, draining).await,
    };
    drop(ended);
}
