use std::fmt;
use std::net::SocketAddr;

use buttress_core::BoxError;

use super::wire::BadRequest;

/// What a server tells its observer.
///
/// The observer is called where it happened, by the task that it happened to, so it must be quick. Requests are not told:
/// a layer of the service sees them.
///
/// ```no_run
/// use buttress_proxy::server::{Event, Server};
///
/// # async fn run() -> std::io::Result<()> {
/// let server = Server::bind("127.0.0.1:8080").await?.observe(|event| {
///     if let Event::Refused { peer, why, .. } = event {
///         eprintln!("{peer}: {why}");
///     }
/// });
/// # drop(server); Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was accepted.
    #[non_exhaustive]
    Opened {
        /// Whose it is.
        peer: SocketAddr,
    },
    /// A connection that was [opened](Self::Opened) is closed, whoever closed it. One that has become a tunnel closes with the tunnel.
    #[non_exhaustive]
    Closed {
        /// Whose it was.
        peer: SocketAddr,
    },
    /// A connection was accepted and closed at once.
    #[non_exhaustive]
    Refused {
        /// Whose it was.
        peer: SocketAddr,
        /// Which bound it met.
        why: Refusal,
    },
    /// The system gave no connection. Most often there are too many open files; the next try is in 100 ms.
    #[non_exhaustive]
    AcceptFailed {
        /// What the system said.
        error: &'a std::io::Error,
    },
    /// An HTTP/1 request is refused before the service sees it, or in the middle of its body, and its connection ends.
    BadRequest(&'a BadRequest<'a>),
    /// A connection ended with an error: the client broke off, spoke no HTTP, was too slow, or went past a bound.
    #[non_exhaustive]
    Failed {
        /// Whose it was.
        peer: SocketAddr,
        /// What hyper, TLS or the socket said.
        error: &'a BoxError,
    },
    /// A drain begins.
    #[non_exhaustive]
    DrainBegins {
        /// How many connections are open.
        connections: usize,
    },
    /// The drain took too long, or was aborted.
    #[non_exhaustive]
    Cut {
        /// How many connections are cut off.
        connections: usize,
    },
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The client has as many connections as it may.
    ClientConnections,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientConnections => "the client has as many connections as it may",
        })
    }
}
