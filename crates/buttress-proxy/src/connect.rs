use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use buttress_core::{BoxError, Rejection, RejectionKind};
use http::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpSocket, lookup_host};

use crate::address::Place;
use crate::age::watch_age;
use crate::body::RequestBody;
use crate::connection::{Checkout, Permit, connection};
use crate::io::{Io, Socket};
use crate::options::{Options, Protocol};
use crate::pool::Pool;
use crate::{Address, Error, ErrorKind};

/// Opening a connection: the one path that boxes a future, since it costs a round trip anyway.
pub(crate) type Connecting<B> = Pin<Box<dyn Future<Output = Result<Checkout<B>, Error>> + Send>>;

/// Opens a connection and begins the request on it.
pub(crate) fn connect<B>(pool: Arc<Pool<B>>, request: Request<RequestBody<B>>) -> Result<Connecting<B>, Error>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let Some(permit) = pool.permit() else {
        let full = Rejection::new(RejectionKind::Overloaded).with_policy("connections").with_elsewhere();
        return Err(Error::unsent(ErrorKind::Rejected, full).at(pool.address()));
    };
    Ok(Box::pin(async move {
        let opened = async {
            let (io, _) = in_time(pool.options(), dial(&pool, Protocol::Http1)).await?;
            open(&pool, io, permit).await
        };
        let mut connection = opened.await.map_err(|error| error.at(pool.address()))?;
        connection.as_mut().begin(request);
        Ok(connection)
    }))
}

/// A connection over which HTTP can be spoken; whether it is to be HTTP/2.
async fn dial<B>(pool: &Pool<B>, protocol: Protocol) -> Result<(Io, bool), Error> {
    let options = pool.options();
    let socket =
        socket(pool.address(), options).await.map_err(|error| Error::unsent(ErrorKind::Connect, error))?;
    #[cfg(feature = "tls")]
    if let Some(tls) = &options.tls {
        let config = pool.tls(tls).await?;
        return crate::tls::connect(socket, tls, config, pool.address(), protocol).await;
    }
    Ok((Io::Plain(socket), protocol != Protocol::Http1))
}

/// Gives `work` the time that connecting may take.
async fn in_time<T>(options: &Options, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut alarm = pin!(options.clock.sleep(options.connect_timeout));
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| {
            Err(Error::unsent(ErrorKind::ConnectTimeout, io::Error::from(io::ErrorKind::TimedOut)))
        }),
        done => done,
    })
    .await
}

async fn socket(address: &Address, options: &Options) -> io::Result<Socket> {
    let (host, port) = match address.place() {
        Place::Socket(address) => return tcp(*address, options).await,
        Place::Name(host, port) => (&**host, *port),
        #[cfg(unix)]
        Place::Unix(path) => return Ok(Socket::unix(UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Place::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match tcp(address, options).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn tcp(address: SocketAddr, options: &Options) -> io::Result<Socket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A request must not wait for the acknowledgement of the one before.
    socket.set_nodelay(true)?;
    if let Some(bytes) = options.receive_buffer {
        // Before the connection is made: the window that is offered depends on it.
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(Socket::tcp(socket.connect(address).await?))
}

async fn open<B>(pool: &Arc<Pool<B>>, io: Io, permit: Permit) -> Result<Checkout<B>, Error>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let link = io.link().clone();
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(pool.options().max_buffer)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| Error::unsent(ErrorKind::Connect, error))?;
    // What goes wrong in the driver is told to the request or the body that it serves.
    let watch = watch_age(Arc::downgrade(pool), pool.options(), link.clone());
    // After an upgrade the socket is the tunnel's, and this task has nothing more to drive.
    let socket = async move { drop(driver.with_upgrades().await) };
    let driver = tokio::spawn(drive(socket, watch)).abort_handle();
    Ok(connection(sender, driver, link, Arc::downgrade(pool), permit))
}

/// The task of one connection. It is aborted when the connection is dropped.
async fn drive(socket: impl Future<Output = ()>, watch: impl Future<Output = Infallible>) {
    let (mut socket, mut watch) = (pin!(socket), pin!(watch));
    let mut open = true;
    poll_fn(|cx| {
        if let Poll::Ready(never) = watch.as_mut().poll(cx) {
            match never {}
        }
        // A connection that the upstream has closed stays in the pool until it is looked at, or too old.
        open = open && socket.as_mut().poll(cx).is_pending();
        Poll::Pending
    })
    .await
}
