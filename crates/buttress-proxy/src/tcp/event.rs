use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{ClientHelloError, Connection, ProxyProtocolError};

/// What a [`Server`](super::Server) tells its observer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was closed before anything was asked of the stack.
    Refused {
        /// The other end of the socket.
        peer: SocketAddr,
        /// What was wrong with it.
        why: &'a Refused,
    },
    /// The stack had no upstream for it, and it was closed.
    Failed {
        /// Whom it was for.
        connection: &'a Connection,
        /// What the stack said.
        error: &'a (dyn StdError + 'static),
    },
    /// A forwarded connection is over.
    Ended {
        /// Whom it was for.
        connection: &'a Connection,
        /// The other end of the socket to the upstream, where it is still known.
        upstream: Option<SocketAddr>,
        /// Bytes from the client to the upstream.
        sent: u64,
        /// Bytes from the upstream to the client.
        received: u64,
        /// From the accept to the end.
        lasted: Duration,
        /// How it ended.
        why: Why<'a>,
    },
    /// No connection could be accepted, as when there are no file descriptors left. The server goes on.
    Accept {
        /// What the system said.
        error: &'a io::Error,
    },
}

/// How a forwarded connection ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Why<'a> {
    /// Both sides had ended what they had to say.
    Closed,
    /// Nothing moved for the idle timeout.
    Idle,
    /// The server drained, and the grace was over.
    Drained,
    /// One side failed, or was reset; a reset is sent on to the other.
    Failed(&'a io::Error),
}

/// Why a connection was closed before anything was asked of the stack.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The PROXY protocol is required, and the peer is in none of the networks that may speak it.
    #[error("the peer is none of the proxies that connections must come from")]
    Untrusted,
    /// It begins with no valid header of the PROXY protocol.
    #[error(transparent)]
    ProxyProtocol(#[from] ProxyProtocolError),
    /// It does not begin with a TLS ClientHello.
    #[error(transparent)]
    ClientHello(#[from] ClientHelloError),
    /// What it has to begin with did not come in time.
    #[error("what the connection has to begin with did not come in time")]
    Timeout,
    /// It ended before what it has to begin with was there.
    #[error("the connection ended before what it has to begin with")]
    Ended,
    /// Reading failed.
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    /// The server drained before the connection came to anything.
    #[error("the server is draining")]
    Draining,
}
