//! The demo: `gateway.toml` as it is, with its upstreams played by services inside this process.

mod tour;
mod upstreams;

use std::{
    io::{Error, Result},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use axum::Router;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;
pub(crate) use tour::tour;

/// The services, each on a loopback port of its own.
pub(crate) struct Demo {
    addresses: Vec<(&'static str, SocketAddr)>,
    /// Bound and never listening: connections to it are refused, and no other program can take it.
    _legacy: TcpSocket,
}

impl Demo {
    pub(crate) async fn start() -> Result<Self> {
        let legacy = TcpSocket::new_v4()?;
        legacy.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let addresses = vec![
            ("users", serve(upstreams::users()).await?),
            ("orders", serve(upstreams::orders()).await?),
            ("payments", serve(upstreams::payments()).await?),
            ("flaky", serve(upstreams::flaky()).await?),
            ("legacy", legacy.local_addr()?),
        ];
        Ok(Self { addresses, _legacy: legacy })
    }

    /// `gateway.toml`, pointed at these services.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut config = Config::parse(Path::new("gateway.toml"), include_str!("../gateway.toml"))
            .map_err(Error::other)?;
        for upstream in &mut config.upstreams {
            let address = self.addresses.iter().find(|(name, _)| *name == upstream.name());
            let (_, address) =
                address.ok_or_else(|| Error::other("gateway.toml has an upstream the demo lacks"))?;
            upstream.set_addresses([(*address).into()]);
        }
        Ok(config)
    }
}

async fn serve(service: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, service).await });
    Ok(address)
}
