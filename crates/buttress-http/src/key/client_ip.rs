use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use buttress_core::{Key, KeyPart, KeySink};
use http::{HeaderMap, Request};

use super::Net;
use super::forwarded::{Field, Hop};
use crate::Peer;

/// The most entries that are read, so that a long field cannot hold up a request.
const MOST_HOPS: usize = 32;

/// Counts by the client's address: the peer of the connection, or behind trusted proxies the client they name.
///
/// Without more it reads no header, so no client can choose its key. IPv6 clients count by their /64, since
/// that is what one customer gets; IPv4 clients by their address.
///
/// ```
/// use buttress_http::key;
///
/// // Clients connect to us.
/// let direct = key::client_ip();
///
/// // A reverse proxy in a private network connects to us and writes `X-Forwarded-For`.
/// let behind = key::client_ip().x_forwarded_for(key::PRIVATE);
/// # let _ = (direct, behind);
/// ```
///
/// # The peer
///
/// The peer's address comes from the extension [`Peer`], from axum's `ConnectInfo<SocketAddr>` (feature
/// `axum`) or from tonic's `TcpConnectInfo` (feature `tonic`). A request with none of them has no key; the
/// first such request is logged as a warning with the line to write.
#[must_use]
pub const fn client_ip() -> ClientIp {
    ClientIp { proxies: None, hops: None, ipv6_prefix: 64 }
}

/// The client's address as a key. Made by [`client_ip()`].
///
/// # Behind proxies
///
/// Name the field that the proxies write, and from where they connect: [`x_forwarded_for`](Self::x_forwarded_for) or
/// [`forwarded`](Self::forwarded). There is no default between the two and they are never mixed: a proxy that
/// writes one passes the other through as the client sent it.
///
/// The field counts only when the peer is trusted. Its lines are read as one list from the right, skipping
/// trusted addresses; the first that is not trusted is the client. Whatever stands left of it is ignored, so a
/// client that sends the field itself gains nothing.
///
/// | found | the client is |
/// |---|---|
/// | an address that is not trusted | that address |
/// | trusted addresses only | the leftmost |
/// | `unknown`, `_hidden`, or no `for=` | the last trusted address before it |
/// | 32 trusted addresses | the last of these |
/// | anything else | the peer |
///
/// Ports, brackets and zone ids are dropped, and an IPv4 address mapped into IPv6 is the IPv4 address.
#[derive(Clone, Debug)]
pub struct ClientIp {
    proxies: Option<Proxies>,
    /// The place of the client's entry from the right, where it is fixed.
    hops: Option<usize>,
    ipv6_prefix: u8,
}

#[derive(Clone, Debug)]
struct Proxies {
    field: Field,
    trusted: Arc<[Net]>,
}

impl ClientIp {
    /// Trusts `X-Forwarded-For` from proxies in `nets`: of nginx, HAProxy, Envoy, and the load balancers of
    /// most clouds.
    ///
    /// The proxy must add to the field or replace it. The network of all addresses (`0.0.0.0/0`) trusts
    /// whoever connects, but skips nothing: with it the last entry is the client, or the one at
    /// [`hops`](Self::hops).
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network. Parse [`Net`]s for those that come from a file.
    #[must_use]
    pub fn x_forwarded_for<N>(self, nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: Display>,
    {
        self.behind(Field::XForwardedFor, nets)
    }

    /// Trusts `Forwarded` (RFC 7239) from proxies in `nets`.
    ///
    /// See [`x_forwarded_for`](Self::x_forwarded_for); the last of the two that is called is the one that is read.
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network.
    #[must_use]
    pub fn forwarded<N>(self, nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: Display>,
    {
        self.behind(Field::Forwarded, nets)
    }

    fn behind<N>(mut self, field: Field, nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: Display>,
    {
        let parse = |net: N| net.try_into().unwrap_or_else(|error| panic!("trusted proxies: {error}"));
        self.proxies = Some(Proxies { field, trusted: nets.into_iter().map(parse).collect() });
        self
    }

    /// Takes the `n`-th entry from the right instead of skipping trusted addresses: for exactly `n` proxies
    /// whose addresses are not known, as with a content delivery network.
    ///
    /// The peer must be trusted all the same. With fewer entries the client is the peer, since the request did
    /// not come through all of the proxies.
    ///
    /// # Panics
    ///
    /// When `n` is 0 or above 32, the most entries that are read.
    #[must_use]
    pub const fn hops(mut self, n: usize) -> Self {
        assert!(n >= 1 && n <= MOST_HOPS, "hops: from 1 to 32");
        self.hops = Some(n);
        self
    }

    /// Counts IPv6 clients by the first `bits` of their address; the default is 64.
    ///
    /// A customer may have a /56 or a /48 and so many /64: fewer bits count more of one customer's addresses
    /// together, at the price of neighbours where a /64 is all they have.
    ///
    /// # Panics
    ///
    /// When `bits` is not from 48 to 128.
    #[must_use]
    pub const fn ipv6_prefix(mut self, bits: u8) -> Self {
        assert!(bits >= 48 && bits <= 128, "ipv6_prefix: from 48 to 128 bits");
        self.ipv6_prefix = bits;
        self
    }

    /// The client's whole address, for logs and forwarding, where the peer is known.
    #[inline]
    pub fn address<B>(&self, request: &Request<B>) -> Option<IpAddr> {
        Peer::of(request).map(|peer| self.resolve(peer.0.ip(), request.headers()))
    }

    /// The client's whole address, given the address of the peer.
    ///
    /// It is always the peer's address or one that stands in the headers. It does not allocate.
    #[inline]
    #[must_use]
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        match &self.proxies {
            None => peer,
            Some(proxies) => self.resolve_behind(proxies, peer, headers),
        }
    }

    #[inline(never)]
    fn resolve_behind(&self, proxies: &Proxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !proxies.trust(peer) {
            return peer;
        }
        let mut last = peer;
        for (hop, index) in proxies.field.hops(headers).zip(1..=MOST_HOPS) {
            match hop {
                Hop::Malformed => return peer,
                Hop::Hidden => return last,
                Hop::Address(address) => last = address,
            }
            if self.hops.map_or_else(|| !proxies.skip(last), |n| n == index) {
                return last;
            }
        }
        if self.hops.is_some() { peer } else { last }
    }

    /// The part of the client's address that counts.
    #[inline(never)]
    fn key_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        match self.resolve(peer, headers) {
            address @ IpAddr::V4(_) => address,
            IpAddr::V6(v6) => {
                let mask = u128::MAX << (128 - u32::from(self.ipv6_prefix));
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        }
    }
}

impl Proxies {
    fn trust(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(peer))
    }

    /// Whether `address` is a proxy's. Where everybody is trusted, the leftmost entry would be the client,
    /// and anyone could write that.
    fn skip(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| !net.is_everything() && net.contains(address))
    }
}

impl<B> Key<Request<B>> for ClientIp {
    #[inline(always)]
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        let Some(peer) = Peer::of(request) else {
            warn_no_peer();
            return false;
        };
        match peer.0 {
            // What the next line does too, but most often it is all that there is to do.
            SocketAddr::V4(v4) if self.proxies.is_none() => v4.ip().write(to),
            peer => self.key_of(peer.ip(), request.headers()).write(to),
        }
        true
    }
}

/// Says once per process that keys by address do not work.
#[cold]
fn warn_no_peer() {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "key::client_ip() has no peer address, so these requests have no key: with axum serve \
             `app.into_make_service_with_connect_info::<SocketAddr>()` and enable the feature `axum` of \
             buttress-http; elsewhere insert the request extension `buttress_http::Peer(address)`"
        );
    }
}
