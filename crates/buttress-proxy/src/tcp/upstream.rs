use std::fmt;

use buttress_core::{End, Finish, Guard};
use sync_wrapper::SyncWrapper;
use tokio::net::TcpStream;

use super::Connection;

/// A connection to an upstream that is open: the answer of a stack for TCP.
///
/// It is made by [`Connect`](super::Connect), or of a socket by a service of your own. Dropping it closes the socket.
pub struct Upstream {
    stream: TcpStream,
    guards: SyncWrapper<Vec<Box<dyn Guard + Send>>>,
}

impl Upstream {
    /// The socket, as the [`Server`](super::Server) sees it.
    #[must_use]
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn into_parts(self) -> (TcpStream, Guards) {
        (self.stream, Guards(self.guards.into_inner()))
    }
}

impl From<TcpStream> for Upstream {
    fn from(stream: TcpStream) -> Self {
        Self { stream, guards: SyncWrapper::new(Vec::new()) }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// What the layers of the stack hold until the connection is over. Dropped, each gives back what it holds.
pub(super) struct Guards(Vec<Box<dyn Guard + Send>>);

impl Guards {
    /// The connection is over: so many bytes have come from the upstream.
    pub(super) fn end(mut self, received: u64, complete: bool) {
        for guard in &mut self.0 {
            guard.data(received);
            guard.end(&if complete { End::Complete { trailers: None } } else { End::Aborted });
        }
    }
}

/// A call is over when the connection is: for `finish` of a balancer, whose count of what is in flight is then that of
/// the open connections.
///
/// Without it a call is over once the connection is made, and "least connections" knows of those alone that are
/// being made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct AtClose;

impl<G: Guard + Send + 'static> Finish<Connection, Upstream, G> for AtClose {
    type Form = ();
    type Out = Upstream;

    fn form(&self, _: &Connection) {}

    fn finish(&self, (): (), mut upstream: Upstream, guard: G) -> Upstream {
        upstream.guards.get_mut().push(Box::new(guard));
        upstream
    }
}
