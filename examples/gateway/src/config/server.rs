//! Where clients connect, and what they get.

use std::{net::SocketAddr, time::Duration};

use buttress::proxy::server::{Server, ServerTls, Workers};
use serde::Deserialize;
use toml::Spanned;

use super::{
    Config, Finding,
    files::Files,
    said,
    tls::PortTls,
    value::{Count, Text},
};

/// A port; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    address: Spanned<Text<SocketAddr>>,
    tls: Option<Spanned<PortTls>>,
    #[serde(skip)]
    made_tls: MadeTls,
}

/// What the files hold, which may change while the port stays as it is.
#[derive(Clone, Debug, Default)]
struct MadeTls(Option<ServerTls>);

impl PartialEq for MadeTls {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Port {
    /// A port without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address: Spanned::new(0..0, Text(address)), tls: None, made_tls: MadeTls::default() }
    }

    pub(super) fn load(&mut self, files: &mut Files) -> Result<(), Finding> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let made = tls.get_ref().load(files);
        self.made_tls.0 = Some(made.map_err(|(at, message)| (at.or(Some(tls.span())), message))?);
        Ok(())
    }

    /// Its certificates, as they were read last; none where it is plain.
    pub(crate) fn tls(&self) -> Option<&ServerTls> {
        self.made_tls.0.as_ref()
    }

    /// Whether clients are asked who they are.
    pub(super) fn asks_clients(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.get_ref().asks_clients())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.get_ref().0
    }

    /// The same elsewhere.
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        Self { address: Spanned::new(self.address.span(), Text(address)), ..self }
    }

    pub(super) fn span(&self) -> std::ops::Range<usize> {
        self.address.span()
    }
}

/// Bounds for clients; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bounds {
    keep_alive: Option<Spanned<Text<Duration>>>,
    body_timeout: Option<Spanned<Text<Duration>>>,
    max_head: Option<Spanned<Count>>,
    max_fields: Option<Count>,
    max_connections: Option<Count>,
    max_per_client: Option<Count>,
    accept_rate: Option<Count>,
    max_streams: Option<Count>,
    workers: Option<Count>,
}

impl Bounds {
    pub(super) fn check(&self) -> Result<(), Finding> {
        super::check::wait("keep_alive", self.keep_alive.as_ref())?;
        super::check::wait("body_timeout", self.body_timeout.as_ref())?;
        match &self.max_head {
            Some(bytes) if !(256..=1024 * 1024).contains(&bytes.get_ref().0) => {
                let message = format!("max_head is {}; make it from 256 to 1048576 bytes", bytes.get_ref().0);
                Err((Some(bytes.span()), message))
            }
            _ => Ok(()),
        }
    }
}

/// How a port is served: the same for all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Serving {
    header_timeout: Duration,
    send_timeout: Duration,
    drain: Duration,
    bounds: Bounds,
}

impl Serving {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            header_timeout: config.header_timeout(),
            send_timeout: config.send_timeout(),
            drain: config.drain(),
            bounds: config.server.as_ref().map(|bounds| bounds.get_ref().clone()).unwrap_or_default(),
        }
    }

    /// A server like this: what the file does not say is as the server has it.
    pub(crate) fn apply(&self, server: Server) -> Server {
        let Bounds {
            max_head, max_fields, max_connections, max_per_client, accept_rate, max_streams, ..
        } = &self.bounds;
        let size = |count: Count| usize::try_from(count.0).unwrap_or(usize::MAX);
        let server =
            server.head_timeout(self.header_timeout).send_timeout(self.send_timeout).drain(self.drain);
        let server = over(server, said(self.bounds.keep_alive.as_ref()), Server::keep_alive);
        let server = over(server, said(self.bounds.body_timeout.as_ref()), Server::body_timeout);
        let server = over(server, max_head.as_ref().map(|bytes| size(*bytes.get_ref())), Server::max_head);
        let server = over(server, max_fields.map(size), Server::max_fields);
        let server = over(server, max_connections.map(size), Server::max_connections);
        let server = over(server, max_per_client.map(size), Server::max_per_client);
        let server = over(server, max_streams.map(Count::at_most_u32), Server::max_streams);
        let server = over(server, accept_rate.map(Count::at_most_u32), |server, rate| {
            // A tenth of a second's at once: clients that come together are common.
            server.accept_rate(rate, rate.div_ceil(10))
        });
        server.workers(
            self.bounds.workers.map_or(Workers::per_core(), |threads| Workers::Threads(size(threads))),
        )
    }
}

fn over<T>(server: Server, value: Option<T>, set: impl FnOnce(Server, T) -> Server) -> Server {
    match value {
        Some(value) => set(server, value),
        None => server,
    }
}
