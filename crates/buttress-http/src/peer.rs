use std::net::SocketAddr;

use http::{Extensions, Request};

/// The address of the other end of the connection: a request extension.
///
/// Whoever accepts the connection inserts it; of axum's and tonic's servers their own extensions are read instead:
///
/// ```
/// use buttress_http::Peer;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Peer(([192, 0, 2, 7], 50123).into()));
/// assert_eq!(Peer::of(&request).unwrap().0.port(), 50123);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "it is an address and nothing else")]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// The peer of a request: the extension `Peer`, else axum's `ConnectInfo<SocketAddr>` or
    /// `MockConnectInfo<SocketAddr>` (feature `axum`), else tonic's `TcpConnectInfo` (feature `tonic`).
    #[inline]
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        let extensions = request.extensions();
        match kept(extensions) {
            Some(address) => Some(Self(*address)),
            None => tonic(extensions),
        }
    }
}

/// The address where an extension keeps it as it is.
fn kept(extensions: &Extensions) -> Option<&SocketAddr> {
    match extensions.get::<Peer>() {
        Some(peer) => Some(&peer.0),
        None => axum(extensions),
    }
}

#[cfg(feature = "axum")]
fn axum(extensions: &Extensions) -> Option<&SocketAddr> {
    use axum::extract::ConnectInfo;

    match extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(info) => Some(&info.0),
        None => mock(extensions),
    }
}

#[cfg(feature = "axum")]
#[cold]
fn mock(extensions: &Extensions) -> Option<&SocketAddr> {
    use axum::extract::connect_info::MockConnectInfo;

    extensions.get::<MockConnectInfo<SocketAddr>>().map(|info| &info.0)
}

#[cfg(not(feature = "axum"))]
const fn axum(_: &Extensions) -> Option<&SocketAddr> {
    None
}

#[cfg(feature = "tonic")]
fn tonic(extensions: &Extensions) -> Option<Peer> {
    extensions.get::<tonic::transport::server::TcpConnectInfo>()?.remote_addr().map(Peer)
}

#[cfg(not(feature = "tonic"))]
const fn tonic(_: &Extensions) -> Option<Peer> {
    None
}
