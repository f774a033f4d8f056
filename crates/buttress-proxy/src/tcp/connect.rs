use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::Clock;
use sync_wrapper::SyncWrapper;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tower_service::Service;

use super::proxy_protocol::{self, Version};
use super::{Connection, Upstream};
use crate::address::Place;
use crate::dial::dial;
use crate::{Address, AddressError, Error, ErrorKind};

/// Opens connections to one upstream: the last service of a stack for TCP.
///
/// Its errors all prove that nothing of the client's was sent, so a retry layer may go on to another endpoint whatever
/// the protocol is.
///
/// ```
/// use buttress_proxy::tcp::{Connect, Version};
/// use std::time::Duration;
///
/// let mail = Connect::to("10.0.0.9:25")?.connect_timeout(Duration::from_millis(500)).proxy_protocol(Version::V2);
/// # let _ = mail;
/// # Ok::<(), buttress_proxy::AddressError>(())
/// ```
///
/// # Cancel safety
///
/// Dropping the future closes what was opened.
#[derive(Clone, Debug)]
pub struct Connect(Arc<Options>);

#[derive(Clone, Debug)]
struct Options {
    address: Address,
    timeout: Duration,
    proxy_protocol: Option<Version>,
    clock: Clock,
}

impl Connect {
    /// Connects to `address`: a socket address, or a name and port, which is looked up each time.
    ///
    /// # Errors
    ///
    /// When `address` is none: without a port or with port 0, with a path; or where it asks for TLS or a UNIX socket.
    pub fn to<A>(address: A) -> Result<Self, AddressError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let address = address.try_into()?.tcp()?;
        let timeout = Duration::from_secs(1);
        Ok(Self(Arc::new(Options { address, timeout, proxy_protocol: None, clock: Clock::default() })))
    }

    /// Gives up after `timeout`, the look-up of a name included. Default: 1 s, after which one lost SYN is sent again.
    ///
    /// # Panics
    ///
    /// When `timeout` is zero: no connection could be made.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "connect_timeout must be longer than zero");
        Arc::make_mut(&mut self.0).timeout = timeout;
        self
    }

    /// Tells the upstream by the PROXY protocol who the client is. Default: it sees our address alone.
    ///
    /// The upstream has to expect it: it comes before the client's first byte.
    #[must_use]
    pub fn proxy_protocol(mut self, version: Version) -> Self {
        Arc::make_mut(&mut self.0).proxy_protocol = Some(version);
        self
    }

    /// Reads the time from `clock`. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        Arc::make_mut(&mut self.0).clock = clock;
        self
    }
}

impl Options {
    async fn open(&self, connection: &Connection) -> Result<Upstream, Error> {
        let mut open = pin!(self.dial(connection));
        let mut alarm = pin!(self.clock.sleep(self.timeout));
        let opened = poll_fn(|cx| match open.as_mut().poll(cx) {
            Poll::Ready(opened) => {
                Poll::Ready(opened.map_err(|error| Error::unsent(ErrorKind::Connect, error)))
            }
            Poll::Pending => alarm.as_mut().poll(cx).map(|()| {
                Err(Error::unsent(ErrorKind::ConnectTimeout, io::Error::from(io::ErrorKind::TimedOut)))
            }),
        });
        opened.await.map(Upstream::from).map_err(|error| error.at(&self.address))
    }

    async fn dial(&self, connection: &Connection) -> io::Result<TcpStream> {
        let mut stream = match self.address.place() {
            Place::Socket(address) => dial([*address]).await,
            Place::Name(host, port) => dial(lookup_host((&**host, *port)).await?).await,
            Place::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        }?;
        if let Some(version) = self.proxy_protocol {
            let header = proxy_protocol::write(version, connection.client(), connection.destination());
            stream.write_all(&header).await?;
        }
        Ok(stream)
    }
}

impl Service<Connection> for Connect {
    type Response = Upstream;
    type Error = Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection) -> Connecting {
        let options = Arc::clone(&self.0);
        Connecting(SyncWrapper::new(Box::pin(async move { options.open(&connection).await })))
    }
}

/// The future of [`Connect`]. It is boxed, since opening a connection costs a round trip anyway.
#[must_use = "futures do nothing unless polled"]
pub struct Connecting(SyncWrapper<Pin<Box<dyn Future<Output = Result<Upstream, Error>> + Send>>>);

impl Future for Connecting {
    type Output = Result<Upstream, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.get_mut().as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Connecting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connecting").finish_non_exhaustive()
    }
}
