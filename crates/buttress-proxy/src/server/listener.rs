use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::ToSocketAddrs;

/// The most connections that the kernel holds ready for us: what tokio and nginx come near to. Linux cuts it down to
/// `net.core.somaxconn`, 4096 by default.
pub(super) const BACKLOG: i32 = 1024;

/// A port to accept connections at.
///
/// [`Server::bind`](super::Server::bind) makes the usual one. This is for several ports, for a socket that somebody else
/// has opened (systemd, an old process that hands it over), and for one queue of connections per worker.
///
/// ```no_run
/// use buttress_proxy::server::{Listener, Server};
///
/// # async fn run() -> std::io::Result<()> {
/// let server = Server::on(Listener::bind("127.0.0.1:8080").await?).and(Listener::bind("[::1]:8080").await?);
/// # drop(server); Ok(())
/// # }
/// ```
pub struct Listener {
    /// All at one address; more than one where each is a queue of its own.
    sockets: Vec<std::net::TcpListener>,
    address: SocketAddr,
    reuse_port: bool,
    transport: Transport,
}

/// What is spoken below HTTP.
#[derive(Clone, Default)]
pub(super) struct Transport {
    #[cfg(feature = "tls")]
    pub(super) tls: Option<super::TlsHandle>,
}

/// A socket for one accept loop.
pub(super) struct Queue {
    pub(super) socket: std::net::TcpListener,
    pub(super) transport: Transport,
}

impl Listener {
    /// Listens at the first of the addresses that can be had; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When none can be had, with what the system said of the last.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::at(address, false).await
    }

    /// The same with `SO_REUSEPORT`: each worker gets a queue of its own, and the kernel spreads new connections evenly
    /// over them by a hash.
    ///
    /// Other processes of the same user may listen at the same port then, and take part of the connections. What waits
    /// in a queue is reset when that queue's socket is closed, so a drain empties it first; to pass a port on without
    /// losing any connection, hand its sockets over and do not count on this option.
    ///
    /// # Errors
    ///
    /// When no address can be had, with what the system said of the last; where the system has no `SO_REUSEPORT`.
    pub async fn bind_reuse_port(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::at(address, true).await
    }

    async fn at(address: impl ToSocketAddrs, reuse_port: bool) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen at");
        for address in tokio::net::lookup_host(address).await? {
            match listen(address, reuse_port) {
                Ok(socket) => {
                    return Ok(Self {
                        address: socket.local_addr()?,
                        sockets: vec![socket],
                        reuse_port,
                        transport: Transport::default(),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Speaks TLS. Keep a [`TlsHandle`](super::TlsHandle) to change certificates while it serves.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(mut self, tls: impl Into<super::TlsHandle>) -> Self {
        self.transport.tls = Some(tls.into());
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sockets that listen already, all at one address; `None` where there are none.
    #[cfg(target_os = "linux")]
    pub(super) fn of(sockets: Vec<std::net::TcpListener>) -> io::Result<Option<Self>> {
        let Some(first) = sockets.first() else { return Ok(None) };
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        let reuse_port = socket2::SockRef::from(first).reuse_port()?;
        Ok(Some(Self { address: first.local_addr()?, sockets, reuse_port, transport: Transport::default() }))
    }

    /// All its sockets once more.
    #[cfg(target_os = "linux")]
    pub(super) fn copies(&self) -> io::Result<Vec<std::net::TcpListener>> {
        self.sockets.iter().map(std::net::TcpListener::try_clone).collect()
    }

    /// The sockets of one worker of `workers`. Without a queue for each, all accept from the same.
    pub(super) fn share(&self, worker: usize, workers: usize) -> io::Result<Vec<Queue>> {
        let (skip, step) = if self.sockets.len() < 2 { (0, 1) } else { (worker, workers) };
        let own = self.sockets.iter().skip(skip).step_by(step);
        own.map(|socket| Ok(Queue { socket: socket.try_clone()?, transport: self.transport.clone() }))
            .collect()
    }

    /// One queue for each worker, where that was asked for.
    pub(super) fn spread(&mut self, workers: usize) -> io::Result<()> {
        while self.reuse_port && self.sockets.len() < workers {
            self.sockets.push(listen(self.address, true)?);
        }
        Ok(())
    }
}

impl TryFrom<std::net::TcpListener> for Listener {
    type Error = io::Error;

    /// A socket that listens already.
    fn try_from(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            address: socket.local_addr()?,
            sockets: vec![socket],
            reuse_port: false,
            transport: Transport::default(),
        })
    }
}

impl TryFrom<tokio::net::TcpListener> for Listener {
    type Error = io::Error;

    fn try_from(socket: tokio::net::TcpListener) -> io::Result<Self> {
        socket.into_std()?.try_into()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port whose last connections linger in TIME_WAIT can be had at once. On Windows the option means another thing.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if reuse_port {
        share_port(&socket)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(unix)]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(unix))]
fn share_port(_: &Socket) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there is no SO_REUSEPORT here"))
}
