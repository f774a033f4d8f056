//! Taking a port.

use std::{
    io::{Error, ErrorKind, Result},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use tokio::net::TcpListener;

/// Where the gateway listens when nobody says otherwise: this machine only.
pub(crate) const DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));

/// A listener, its address, and the address that was wanted but taken by another program.
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) instead_of: Option<SocketAddr>,
}

/// Listens on `address`, or says what to do about it.
pub(crate) async fn exactly(address: SocketAddr) -> Result<Listening> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}; choose another with --listen");
        Error::new(error.kind(), message)
    })?;
    Ok(Listening { address: listener.local_addr()?, listener, instead_of: None })
}

/// Listens on `wanted`, or on the first free port of the hundred above it, or on any.
pub(crate) async fn or_next_free(wanted: Option<SocketAddr>) -> Result<Listening> {
    let wanted = wanted.unwrap_or(DEFAULT);
    let above = (1..=100).filter_map(|step| wanted.port().checked_add(step));
    for port in std::iter::once(wanted.port()).chain(above).chain([0]) {
        match exactly(SocketAddr::new(wanted.ip(), port)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
            Ok(got) => return Ok(Listening { instead_of: (port != wanted.port()).then_some(wanted), ..got }),
        }
    }
    Err(Error::new(ErrorKind::AddrInUse, format!("no free port on {}", wanted.ip())))
}
