use std::net::SocketAddr;
use std::sync::Arc;

use buttress_core::{Facts, HasFacts};

use super::client_hello::ClientHello;

/// A client's connection that is to be forwarded: who it is, and where it wants to go.
///
/// It is the request of a stack for TCP and does not hold the socket, so a copy may be sent to another endpoint when
/// connecting to the first has failed. Keys are closures:
///
/// ```
/// use buttress_proxy::tcp::Connection;
///
/// let by_client = |connection: &Connection| Some(connection.client().ip());
/// # let connection = Connection::new(([192, 0, 2, 7], 50123).into(), ([198, 51, 100, 1], 443).into());
/// # assert_eq!(by_client(&connection).unwrap().to_string(), "192.0.2.7");
/// ```
#[derive(Clone, Debug)]
pub struct Connection {
    said: Arc<Said>,
    facts: Option<Facts>,
}

#[derive(Clone, Debug)]
struct Said {
    client: SocketAddr,
    destination: SocketAddr,
    peer: SocketAddr,
    hello: ClientHello,
}

impl Connection {
    /// A connection from `client` to `destination`, of which nothing else is known.
    #[must_use]
    pub fn new(client: SocketAddr, destination: SocketAddr) -> Self {
        let said = Said { client, destination, peer: client, hello: ClientHello::default() };
        Self { said: Arc::new(said), facts: None }
    }

    pub(super) fn accepted(
        peer: SocketAddr,
        client: SocketAddr,
        destination: SocketAddr,
        hello: ClientHello,
    ) -> Self {
        Self { said: Arc::new(Said { client, destination, peer, hello }), facts: None }
    }

    /// The client: the source that the PROXY protocol names, else the other end of the socket.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.said.client
    }

    /// Where the client has connected to: the destination that the PROXY protocol names, else our end of the socket.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.said.destination
    }

    /// The other end of the socket: the client, or the proxy in front.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.said.peer
    }

    /// The server name that a TLS client asks for, in lower case. Only where
    /// [`Server::read_client_hello`](super::Server::read_client_hello) is on.
    ///
    /// Nobody has proved anything by it: the certificate comes later, and is the upstream's.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.said.hello.server_name.as_deref()
    }

    /// The protocols that a TLS client offers by ALPN, the best first. Only where
    /// [`Server::read_client_hello`](super::Server::read_client_hello) is on.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.said.hello.alpn.iter().map(|name| &**name)
    }

    /// The same connection with this server name, for tests of what reads it.
    #[must_use]
    pub fn with_server_name(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.said).hello.server_name = Some(name.to_ascii_lowercase().into());
        self
    }
}

impl HasFacts for Connection {
    fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    fn facts_mut(&mut self) -> Option<&mut Facts> {
        Some(self.facts.get_or_insert_default())
    }
}
