//! TCP ports: connections instead of requests, to the endpoints of the same kind of upstreams.
//!
//! They come, stay and go with the file as other ports do; connections that are open stay with the server that took them.

use std::{collections::HashMap, io::Result, net::SocketAddr};

use buttress::{
    Balancer, Clock, Endpoint, Endpoints,
    balance::Members,
    health::Shutdown,
    proxy::{
        self,
        tcp::{AtClose, ByServerName, Connect, Connection, Event, Server},
    },
    retry::RetryLayer,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};
use tower::{Service, ServiceBuilder};

use crate::{
    config::{Config, TcpPort, Upstream},
    listeners,
    print::note,
};

const CHECKED: &str = "checked when the configuration was read";

/// The TCP ports that are open.
pub(crate) struct TcpPorts {
    shutdown: Shutdown,
    open: Vec<Open>,
    servers: JoinSet<()>,
}

struct Open {
    port: TcpPort,
    /// Those that it leads to, without their addresses, and these.
    upstreams: Vec<(Upstream, Endpoints)>,
    socket: std::net::TcpListener,
    /// Tells the server to drain.
    leave: oneshot::Sender<()>,
}

/// The sockets that a change takes.
pub(crate) struct Change(HashMap<SocketAddr, std::net::TcpListener>);

impl TcpPorts {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, open: Vec::new(), servers: JoinSet::new() }
    }

    /// What makes the ports those of `config`. Nothing has changed yet, and nothing has if it is dropped.
    pub(crate) fn change(&self, config: &Config) -> Result<Change> {
        let known = |address| self.open.iter().any(|open| open.port.address() == address);
        let new = config.tcp().map(TcpPort::address).filter(|&address| !known(address));
        new.map(|address| Ok((address, listeners::listen(address)?.into_std()?)))
            .collect::<Result<_>>()
            .map(Change)
    }

    /// Changes the ports.
    pub(crate) fn apply(&mut self, config: &Config, Change(mut sockets): Change) {
        let mut before = std::mem::take(&mut self.open);
        for port in config.tcp() {
            let present = before.iter().position(|open| open.port.address() == port.address());
            match present.map(|at| before.swap_remove(at)) {
                Some(open) if open.port == *port && open.is_as(config) => {
                    let now = Clock::default().now();
                    for ((_, endpoints), upstream) in open.upstreams.iter().zip(upstreams(config, port)) {
                        endpoints.replace(upstream.list(), now).expect(CHECKED);
                    }
                    self.open.push(open);
                }
                Some(open) => {
                    self.start(config, port, open.socket);
                    let _ = open.leave.send(());
                }
                None => {
                    let socket = sockets.remove(&port.address());
                    self.start(config, port, socket.expect("it was opened for this change"));
                }
            }
        }
        for open in before {
            note(format_args!("{}: no longer listened to", open.port.address()));
            let _ = open.leave.send(());
        }
        while self.servers.try_join_next().is_some() {}
    }

    fn start(&mut self, config: &Config, port: &TcpPort, socket: std::net::TcpListener) {
        let (leave, left) = oneshot::channel();
        let stopping = self.shutdown.stopping();
        let stop = async move {
            tokio::select! {
                () = stopping => {}
                _ = left => {}
            }
        };
        let balancers: Vec<_> = upstreams(config, port).map(|upstream| balanced(upstream, port)).collect();
        let lists = upstreams(config, port).zip(&balancers);
        let lists = lists.map(|(upstream, (_, list))| (upstream.apart(), list.clone())).collect();
        let mut services = balancers.into_iter().map(|(service, _)| service);
        let mut routes = ByServerName::otherwise(services.next().expect("one upstream at least"));
        for (name, service) in port.server_names().zip(services) {
            routes = routes.route(name, service).expect(CHECKED);
        }
        let address = port.address();
        match socket.try_clone().and_then(TcpListener::from_std) {
            Ok(listener) => {
                let server = port.serve(Server::from(listener)).grace(config.drain());
                let server = server.observe(move |event| tell(address, event));
                let aborting = self.shutdown.aborting();
                self.servers.spawn(async move {
                    tokio::select! {
                        () = server.serve_until(routes, stop) => {}
                        () = aborting => {}
                    }
                });
                note(format_args!("{address}: TCP is forwarded"));
            }
            Err(error) => note(format_args!("{address}: cannot be served: {error}")),
        }
        self.open.push(Open { port: port.clone(), upstreams: lists, socket, leave });
    }

    /// Waits until all connections have ended.
    pub(crate) async fn ended(self) {
        let Self { open, mut servers, .. } = self;
        let _leave: Vec<_> = open.into_iter().map(|open| open.leave).collect();
        while servers.join_next().await.is_some() {}
    }
}

impl Open {
    /// Whether its upstreams are as `config` has them, whatever their addresses.
    fn is_as(&self, config: &Config) -> bool {
        upstreams(config, &self.port)
            .map(Upstream::apart)
            .eq(self.upstreams.iter().map(|(apart, _)| apart.clone()))
    }
}

/// Where a port leads to: first where no server name leads elsewhere, then by server name.
fn upstreams<'a>(config: &'a Config, port: &'a TcpPort) -> impl Iterator<Item = &'a Upstream> {
    port.upstreams().map(|name| config.upstream(name).expect(CHECKED))
}

/// One of the endpoints of an upstream, and another one where it cannot be connected to; and the list of them.
fn balanced(
    upstream: &Upstream,
    port: &TcpPort,
) -> (
    impl Service<Connection, Response = proxy::tcp::Upstream, Error = proxy::Error, Future: Send>
    + Clone
    + Send
    + 'static
    + use<>,
    Endpoints,
) {
    let endpoints = Endpoints::new(upstream.list()).expect(CHECKED);
    let version = port.send_proxy_protocol();
    let connect = move |endpoint: &Endpoint| {
        let connect = Connect::to(endpoint.address().as_str()).expect(CHECKED);
        match version {
            Some(version) => connect.proxy_protocol(version),
            None => connect,
        }
    };
    let balance = upstream.balance();
    let balancer = Balancer::new(Members::new(endpoints.clone(), connect))
        .policy(balance.policy())
        .settings(balance.settings(upstream.name().to_owned()))
        .finish(AtClose);
    // Of a protocol that nobody reads it is not known what may be sent twice; but here nothing was sent.
    let retry = RetryLayer::cloning(|_: &Connection| false).elsewhere();
    (ServiceBuilder::new().layer(retry).service(balancer), endpoints)
}

fn tell(port: SocketAddr, event: &Event<'_>) {
    match event {
        Event::Refused { peer, why, .. } => note(format_args!("{port}: {peer} was closed: {why}")),
        Event::Failed { connection, error, .. } => {
            note(format_args!("{port}: {} got no upstream: {error}", connection.client()));
        }
        Event::Accept { error, .. } => note(format_args!("{port}: cannot accept a connection: {error}")),
        _ => {}
    }
}
