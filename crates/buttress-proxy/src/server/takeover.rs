//! A new process takes the ports of an old one over, and no connection is lost.
//!
//! ```text
//! old: serves ──────────────────▶ sends its listening sockets ──▶ ... ──▶ drains ──▶ ends
//!                                       ▲            │                      ▲
//! new: reads its configuration ──connects            ▼                      │ "go"
//!                                        listens with the same sockets ──▶ serves
//! ```
//!
//! The listening sockets themselves change hands (`SCM_RIGHTS` over a UNIX socket, as HAProxy's `-x` does it), so the
//! kernel's queue of connections is one and the same before and after, and is never closed. Two processes that each bind
//! the port with `SO_REUSEPORT` have a queue each: what waits in the old one's, or is within its TCP handshake, is reset
//! when that one is closed.

use std::fmt;
use std::fs::Permissions;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use buttress_core::Clock;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{ToSocketAddrs, UnixListener, UnixStream};

use super::Listener;
use super::race::race;

/// Comes with each socket.
const SOCKET: u8 = b's';
/// There are no more sockets.
const END: u8 = b'.';
/// The new process serves.
const GO: u8 = b'g';

/// How long a new process may take from getting the sockets to serving. Then the old one takes the next that comes.
const START: Duration = Duration::from_secs(60);
/// How long to wait when the system gives no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The place where a process gets the listening sockets of the one before it, and hands them to the one after it.
///
/// Every generation of a program does the same: it takes what there is, and opens what is missing. Once it serves, the
/// process before it is told to drain. Where the new process fails before that, the old one goes on as if nothing had
/// been.
///
/// ```no_run
/// use buttress_proxy::server::{Server, Takeover};
/// # use buttress_proxy::server::Handler;
///
/// # async fn run(service: impl Handler) -> std::io::Result<()> {
/// let mut takeover = Takeover::at("/run/gateway/takeover.sock").await?;
/// let plain = takeover.listen("0.0.0.0:8080").await?;
/// Server::on(plain).takeover(takeover).serve(service).await?;
/// # Ok(())
/// # }
/// ```
///
/// Only the program's user may use the socket (mode 0600), since whoever does gets the ports. Where a supervisor holds the listening sockets (systemd's `LISTEN_FDS`), give those to [`Listener::try_from`] instead. There
/// is this on Linux alone.
pub struct Takeover {
    path: PathBuf,
    /// The process before this one, which waits for the word.
    old: Option<UnixStream>,
    sockets: Vec<TcpListener>,
}

impl Takeover {
    /// Asks the process that serves at `path` for its sockets. Where nobody does, there are none.
    ///
    /// # Errors
    ///
    /// When the socket at `path` may not be used, or somebody there does not speak as a server of this library does.
    pub async fn at(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let old = match UnixStream::connect(&path).await {
            Ok(old) => old,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(Self { path, old: None, sockets: Vec::new() });
            }
            Err(error) => return Err(error),
        };
        let mut sockets = Vec::new();
        while let Some(socket) = receive(&old).await? {
            sockets.push(TcpListener::from(socket));
        }
        Ok(Self { path, old: Some(old), sockets })
    }

    /// Whether there is a process before this one.
    #[must_use]
    pub fn is_taking_over(&self) -> bool {
        self.old.is_some()
    }

    /// The listener at `address`: with the sockets of the process before, else with a new one as of [`Listener::bind`].
    ///
    /// # Errors
    ///
    /// When no address can be had, with what the system said of the last.
    pub async fn listen(&mut self, address: impl ToSocketAddrs) -> io::Result<Listener> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
        let at_address =
            |socket: &mut TcpListener| socket.local_addr().is_ok_and(|address| addresses.contains(&address));
        let taken: Vec<_> = self.sockets.extract_if(.., at_address).collect();
        match Listener::of(taken)? {
            Some(listener) => Ok(listener),
            None => Listener::bind(&addresses[..]).await,
        }
    }

    /// Tells the process before that it can go, and is there for the one after.
    pub(super) async fn begin(self, listeners: &[Listener]) -> io::Result<Succession> {
        let copies = listeners.iter().map(Listener::copies).collect::<io::Result<Vec<_>>>()?;
        let asked = bind(&self.path)?;
        if let Some(mut old) = self.old {
            // Where it has gone by itself, so much the better.
            let _ = old.write_all(&[GO]).await;
        }
        Ok(Succession { asked, sockets: copies.into_iter().flatten().collect() })
    }
}

/// Waits for the next process.
pub(super) struct Succession {
    asked: UnixListener,
    sockets: Vec<TcpListener>,
}

impl Succession {
    /// Completes when another process serves with our sockets.
    pub(super) async fn followed(self, clock: &Clock) {
        loop {
            let Ok((next, _)) = self.asked.accept().await else {
                clock.sleep(PAUSE).await;
                continue;
            };
            if let Ok(Ok(())) = race(offer(next, &self.sockets), clock.sleep(START)).await {
                return;
            }
        }
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Takeover")
            .field("path", &self.path)
            .field("is_taking_over", &self.is_taking_over())
            .field("sockets", &self.sockets)
            .finish()
    }
}

/// The socket stands at its path from one moment to the next: whoever connects finds the old one or the new one.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    // Whoever may write to it gets the ports.
    std::fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Completes when the process at the other end serves.
async fn offer(mut next: UnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    for socket in sockets {
        send(&next, socket).await?;
    }
    next.write_all(&[END]).await?;
    match next.read_u8().await? {
        GO => Ok(()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

async fn send(stream: &UnixStream, socket: &TcpListener) -> io::Result<()> {
    let sockets = [socket.as_fd()];
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        assert!(rights.push(SendAncillaryMessage::ScmRights(&sockets)), "the space is for one socket");
        Ok(rustix::net::sendmsg(stream, &[IoSlice::new(&[SOCKET])], &mut rights, SendFlags::NOSIGNAL)?)
    };
    // One byte is written or none.
    stream.async_io(Interest::WRITABLE, send).await.map(drop)
}

async fn receive(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let receive = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let into = &mut [IoSliceMut::new(&mut byte)];
        let read = rustix::net::recvmsg(stream, into, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        let socket = rights.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        match (read.bytes, byte[0], socket) {
            (1, SOCKET, Some(socket)) => Ok(Some(socket)),
            (1, END, None) => Ok(None),
            (0, ..) => Err(ErrorKind::UnexpectedEof.into()),
            _ => Err(io::Error::new(
                ErrorKind::InvalidData,
                "the other end is no server that hands sockets over",
            )),
        }
    };
    stream.async_io(Interest::READABLE, receive).await
}
