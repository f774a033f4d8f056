//! The ports: one server for each, over one service.
//!
//! A reload leaves alone the ports whose settings stay, with all their connections. Where settings change, a new server takes
//! over the socket and the old one drains; where a port is gone, its server drains.

use std::{
    io::{Error, ErrorKind, Result},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use buttress::{
    health::Shutdown,
    proxy::server::{Ended, Handler, Listener, Server, TlsHandle},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::oneshot,
    task::JoinSet,
};

use crate::{
    config::{Config, Port, Serving},
    print::note,
    watch::Watch,
};

/// Where the gateway listens when nobody says otherwise: this machine only.
const DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));
/// The most connections that the kernel holds ready for us: what tokio asks for.
const BACKLOG: u32 = 1024;

/// A port that is open.
pub(crate) struct Listening {
    pub(crate) port: Port,
    /// Where it is: port 0 has become another one.
    pub(crate) address: SocketAddr,
    /// The address that was wanted but taken by another program.
    pub(crate) instead_of: Option<SocketAddr>,
    socket: std::net::TcpListener,
    tls: Option<TlsHandle>,
}

impl Listening {
    /// Where a browser would go.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    fn new(port: Port, socket: TcpListener) -> Result<Self> {
        let socket = socket.into_std()?;
        let tls = port.tls().cloned().map(TlsHandle::new);
        Ok(Self { port, address: socket.local_addr()?, instead_of: None, socket, tls })
    }
}

/// The ports of `config`; `only` goes before all of them.
fn ports(config: &Config, only: Option<SocketAddr>) -> Vec<Port> {
    match only {
        Some(address) => vec![Port::plain(address)],
        None => config.ports(DEFAULT),
    }
}

/// Opens all ports of `config`, or says what to do about the one that cannot be had. For the demo the next free port does too.
pub(crate) fn open(config: &Config, only: Option<SocketAddr>, demo: bool) -> Result<Vec<Listening>> {
    let ports = ports(config, only).into_iter();
    ports.map(|port| if demo && only.is_none() { or_next_free(port) } else { exactly(port) }).collect()
}

fn exactly(port: Port) -> Result<Listening> {
    let socket = listen(port.address())?;
    Listening::new(port, socket)
}

/// Listens at `address`, or says what to do where it cannot be had.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A port whose last connections linger can be had at once. On Windows the option means another thing.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| {
        let message = format!("cannot listen on {address}: {error}; choose another with --listen");
        Error::new(error.kind(), message)
    })
}

/// Listens where it is wanted, or on the first free port of the hundred above it, or on any.
fn or_next_free(wanted: Port) -> Result<Listening> {
    let first = wanted.address();
    let above = (1..=100).filter_map(|step| first.port().checked_add(step));
    for port in std::iter::once(first.port()).chain(above).chain([0]) {
        match exactly(wanted.clone().at(SocketAddr::new(first.ip(), port))) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
            Ok(got) => return Ok(Listening { instead_of: (port != first.port()).then_some(first), ..got }),
        }
    }
    Err(Error::new(ErrorKind::AddrInUse, format!("no free port on {}", first.ip())))
}

/// The servers.
pub(crate) struct Listeners<S> {
    service: S,
    watch: Watch,
    shutdown: Shutdown,
    /// The command line's, which goes before the file.
    only: Option<SocketAddr>,
    open: Vec<Open>,
    servers: JoinSet<Result<Ended>>,
}

/// A port with its server.
struct Open {
    listening: Listening,
    serving: Serving,
    /// Tells the server to drain.
    leave: oneshot::Sender<()>,
}

/// What a change of ports takes.
pub(crate) struct Change {
    ports: Vec<Port>,
    serving: Serving,
    opened: Vec<Listening>,
}

impl<S: Handler> Listeners<S> {
    /// Serves at `listening`, until the shutdown.
    pub(crate) fn new(
        service: S,
        watch: Watch,
        config: &Config,
        only: Option<SocketAddr>,
        listening: Vec<Listening>,
        shutdown: Shutdown,
    ) -> Self {
        let mut listeners =
            Self { service, watch, shutdown, only, open: Vec::new(), servers: JoinSet::new() };
        for one in listening {
            listeners.start(one, config.serving());
        }
        listeners
    }

    /// What makes the ports those of `config`. Nothing has changed yet, and nothing has if it is dropped.
    pub(crate) fn change(&self, config: &Config) -> Result<Change> {
        let ports = ports(config, self.only);
        let new = ports.iter().filter(|port| !self.open.iter().any(|open| open.is_at(port)));
        let opened = new.cloned().map(exactly).collect::<Result<_>>()?;
        Ok(Change { ports, serving: config.serving(), opened })
    }

    /// Changes the ports.
    pub(crate) fn apply(&mut self, change: Change) {
        let Change { ports, serving, opened } = change;
        for open in std::mem::take(&mut self.open) {
            match ports.iter().find(|port| open.is_at(port)) {
                Some(port) if *port == open.listening.port && serving == open.serving => {
                    // From the next handshake on; connections that are open stay as they are.
                    if let (Some(handle), Some(tls)) = (&open.listening.tls, port.tls()) {
                        handle.reload(tls.clone());
                    }
                    self.open.push(open);
                }
                Some(port) => {
                    let Open { listening, leave, .. } = open;
                    let address = listening.address;
                    note(format_args!("{address}: served anew, as its settings have changed"));
                    let tls = port.tls().cloned().map(TlsHandle::new);
                    self.start(Listening { port: port.clone(), tls, ..listening }, serving.clone());
                    let _ = leave.send(());
                }
                None => {
                    note(format_args!("{}: no longer listened to", open.listening.address));
                    let _ = open.leave.send(());
                }
            }
        }
        for listening in opened {
            note(format_args!("{}: listened to", listening.address));
            self.start(listening, serving.clone());
        }
        while self.servers.try_join_next().is_some() {}
    }

    fn start(&mut self, listening: Listening, serving: Serving) {
        let (leave, left) = oneshot::channel();
        let stopping = self.shutdown.stopping();
        let begun = async move {
            tokio::select! {
                () = stopping => {}
                _ = left => {}
            }
        };
        let listener = listening.socket.try_clone().and_then(Listener::try_from);
        let server = listener.map(|listener| match listening.tls.clone() {
            Some(tls) => Server::on(listener.tls(tls)),
            None => Server::on(listener),
        });
        let aborting = self.shutdown.aborting();
        let (serve, service, watch) = (serving.clone(), self.service.clone(), self.watch.clone());
        self.servers.spawn(async move {
            let server = serve.apply(server?).shutdown(begun).abort(aborting);
            server.observe(move |event| watch.saw_at_the_door(event)).serve(service).await
        });
        self.open.push(Open { listening, serving, leave });
    }

    /// Waits until all servers have ended, and says how many connections they have cut off.
    pub(crate) async fn ended(self) -> usize {
        let Self { open, mut servers, .. } = self;
        // With the last socket the port is free.
        let _leave: Vec<_> = open.into_iter().map(|open| open.leave).collect();
        let mut cut = 0;
        while let Some(ended) = servers.join_next().await {
            match ended {
                Ok(Ok(ended)) => cut += ended.cut,
                Ok(Err(error)) => note(format_args!("a server could not be started: {error}")),
                Err(error) => note(format_args!("a server broke off: {error}")),
            }
        }
        cut
    }
}

impl Open {
    /// Whether this is the port that is meant, whatever its settings.
    fn is_at(&self, port: &Port) -> bool {
        self.listening.port.address() == port.address()
    }
}
