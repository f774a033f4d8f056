//! The demo: `gateway.toml` as it is, with its upstreams played by services inside this process.

mod pool;
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
use pool::Pool;
pub(crate) use tour::tour;

/// The services, each on a loopback port of its own.
pub(crate) struct Demo {
    addresses: Vec<(&'static str, Vec<SocketAddr>)>,
    _users: Pool,
    /// Bound and never listening: connections to it are refused, and no other program can take it.
    _legacy: TcpSocket,
}

impl Demo {
    pub(crate) async fn start() -> Result<Self> {
        let legacy = TcpSocket::new_v4()?;
        legacy.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let users = Pool::start(["users-1", "users-2", "users-3"], &upstreams::users())?;
        let addresses = vec![
            ("users", users.addresses().collect()),
            ("control", vec![serve(users.control()).await?]),
            ("orders", vec![serve(upstreams::orders()).await?]),
            ("payments", vec![serve(upstreams::payments()).await?]),
            ("flaky", vec![serve(upstreams::flaky()).await?]),
            ("legacy", vec![legacy.local_addr()?]),
        ];
        Ok(Self { addresses, _users: users, _legacy: legacy })
    }

    /// `gateway.toml`, pointed at these services.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut config = Config::parse(Path::new("gateway.toml"), include_str!("../gateway.toml"))
            .map_err(Error::other)?;
        for upstream in &mut config.upstreams {
            let address = self.addresses.iter().find(|(name, _)| *name == upstream.name());
            let (_, addresses) =
                address.ok_or_else(|| Error::other("gateway.toml has an upstream the demo lacks"))?;
            upstream.set_addresses(addresses.iter().copied());
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
