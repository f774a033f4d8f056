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
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::address::Place;
use crate::age::watch_age;
use crate::body::RequestBody;
use crate::connection::{Checkout, Permit, connection};
use crate::io::{Io, Link};
use crate::options::Options;
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
        let stream = dial(&pool).await.map_err(|error| error.at(pool.address()))?;
        let mut connection = open(&pool, stream, permit).await.map_err(|error| error.at(pool.address()))?;
        connection.as_mut().begin(request);
        Ok(connection)
    }))
}

async fn dial<B>(pool: &Pool<B>) -> Result<TcpStream, Error> {
    let options = pool.options();
    let mut alarm = pin!(options.clock.sleep(options.connect_timeout));
    let mut stream = pin!(stream(pool.address(), options));
    let stream = poll_fn(|cx| match stream.as_mut().poll(cx) {
        Poll::Ready(stream) => Poll::Ready(stream.map_err(|error| Error::unsent(ErrorKind::Connect, error))),
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| {
            Err(Error::unsent(ErrorKind::ConnectTimeout, io::Error::from(io::ErrorKind::TimedOut)))
        }),
    });
    stream.await
}

async fn stream(address: &Address, options: &Options) -> io::Result<TcpStream> {
    let (host, port) = match address.place() {
        Place::Socket(address) => return socket(*address, options).await,
        Place::Name(host, port) => (&**host, *port),
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match socket(address, options).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn socket(address: SocketAddr, options: &Options) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A request must not wait for the acknowledgement of the one before.
    socket.set_nodelay(true)?;
    if let Some(bytes) = options.receive_buffer {
        // Before the connection is made: the window that is offered depends on it.
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect(address).await
}

async fn open<B>(pool: &Arc<Pool<B>>, stream: TcpStream, permit: Permit) -> Result<Checkout<B>, Error>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let link = Arc::new(Link::default());
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(pool.options().max_buffer)
        .handshake(Io::new(stream, link.clone()))
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
