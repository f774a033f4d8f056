use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use buttress_core::{BoxError, Rejection, RejectionKind};
use http::Request;
#[cfg(feature = "http2")]
use http::uri::Scheme;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpSocket, lookup_host};

use crate::address::Place;
use crate::age::watch_age;
use crate::body::RequestBody;
use crate::connection::{Checkout, Driver, Held, Permit, connection};
#[cfg(feature = "http2")]
use crate::http2::Multiplexer;
use crate::io::{Io, Link, Socket};
use crate::options::{Options, Protocol};
use crate::pool::Pool;
use crate::{Address, Error, ErrorKind};

/// Opening a connection: the one path that boxes a future, since it costs a round trip anyway.
pub(crate) type Connecting<B> = Pin<Box<dyn Future<Output = Result<Checkout<B>, Error>> + Send>>;

/// Opens a connection, or waits for one that is being opened, and begins the request on it.
pub(crate) fn connect<B>(pool: Arc<Pool<B>>, request: Request<RequestBody<B>>) -> Result<Connecting<B>, Error>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let protocol = pool.protocol_for(&request);
    #[cfg(feature = "http2")]
    if protocol != Protocol::Http1 {
        return Ok(Box::pin(async move {
            let joined = in_time(pool.options(), join(&pool, protocol)).await;
            let mut connection = joined.map_err(|error| error.at(pool.address()))?;
            connection.as_mut().begin(request);
            Ok(connection)
        }));
    }
    let permit = permit(&pool).map_err(|error| error.at(pool.address()))?;
    Ok(Box::pin(async move {
        let opened = in_time(pool.options(), async {
            let (io, _) = dial(&pool, protocol).await?;
            open(&pool, io, permit).await
        });
        let mut connection = opened.await.map_err(|error| error.at(pool.address()))?;
        connection.as_mut().begin(request);
        Ok(connection)
    }))
}

fn permit<B>(pool: &Pool<B>) -> Result<Permit, Error> {
    pool.permit().ok_or_else(full)
}

fn full() -> Error {
    let full = Rejection::new(RejectionKind::Overloaded).with_policy("connections").with_elsewhere();
    Error::unsent(ErrorKind::Rejected, full)
}

/// Opens a connection that no request waits for.
pub(crate) async fn open_ahead<B>(pool: &Arc<Pool<B>>) -> Result<(), Error>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let permit = pool.spare().ok_or_else(full)?;
    let opened = in_time(pool.options(), async {
        let protocol = pool.options().protocol();
        #[cfg(feature = "http2")]
        if protocol != Protocol::Http1 {
            return open_either(pool, protocol, permit).await;
        }
        let (io, _) = dial(pool, protocol).await?;
        open(pool, io, permit).await.map(Some)
    });
    if let Some(connection) = opened.await? {
        pool.put_new(connection);
    }
    Ok(())
}

/// A place on a connection that others may share. All who need one wait for the same connection to be opened, until
/// the upstream has turned out to speak HTTP/1.1.
#[cfg(feature = "http2")]
async fn join<B>(pool: &Arc<Pool<B>>, protocol: Protocol) -> Result<Checkout<B>, Error>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    loop {
        if let Some(connection) = pool.take(protocol) {
            return Ok(connection);
        }
        if pool.multiplexed().speaks_http1() {
            if let Some(connection) = open_either(pool, protocol, permit(pool)?).await? {
                return Ok(connection);
            }
            continue;
        }
        let begin = || -> Pin<Box<dyn Future<Output = _> + Send>> {
            let pool = pool.clone();
            Box::pin(async move {
                let opened = async {
                    let permit = permit(&pool)?;
                    in_time(pool.options(), open_either(&pool, protocol, permit)).await
                };
                opened
                    .await
                    .map(|http1| http1.into_iter().for_each(|one| pool.put_new(one)))
                    .map_err(Arc::new)
            })
        };
        pool.multiplexed().dial(begin).await.map_err(Error::shared)?;
    }
}

/// Opens a connection. One of HTTP/2 is among those of the pool then.
#[cfg(feature = "http2")]
async fn open_either<B>(
    pool: &Arc<Pool<B>>,
    protocol: Protocol,
    permit: Permit,
) -> Result<Option<Checkout<B>>, Error>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (io, http2) = dial(pool, protocol).await?;
    pool.multiplexed().set_http1(!http2);
    if !http2 {
        return open(pool, io, permit).await.map(Some);
    }
    let scheme = if io.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
    let link = io.link().clone();
    let (ready, connection) = crate::http2::handshake(io, pool.options()).await?;
    // What goes wrong in it is told to the calls on it.
    let held = hold(pool, link, permit, async move { drop(connection.await) });
    pool.multiplexed().add(Multiplexer::new(ready, pool.options(), scheme, held));
    Ok(None)
}

/// Drives a connection by a task of its own.
fn hold<B: Send + 'static>(
    pool: &Arc<Pool<B>>,
    link: Arc<Link>,
    permit: Permit,
    socket: impl Future<Output = ()> + Send + 'static,
) -> Held<B> {
    let options = pool.options();
    let until = options.until(options.clock.now());
    let watch = watch_age(Arc::downgrade(pool), options, link.clone(), until);
    let whose = Arc::downgrade(pool);
    let socket = async move {
        socket.await;
        if let Some(pool) = whose.upgrade() {
            pool.one_less();
        }
    };
    let driver = Driver::begin(drive(socket, watch));
    Held { link, until, pool: Arc::downgrade(pool), driver, permit }
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
    link.bound_heads(4 * pool.options().max_buffer as u64);
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(pool.options().max_buffer)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| Error::unsent(ErrorKind::Connect, error))?;
    // What goes wrong in it is told to the request or the body that it serves. After an upgrade the socket is the
    // tunnel's, and this task has nothing more to drive.
    let held = hold(pool, link, permit, async move { drop(driver.with_upgrades().await) });
    Ok(connection(sender, held))
}

/// The task of one connection. It is aborted when the connection is dropped.
///
/// Each request wakes it several times, and its timer nearly never: the timer is looked at when it has gone off.
async fn drive(socket: impl Future<Output = ()>, watch: impl Future<Output = Infallible>) {
    let (mut socket, mut watch) = (pin!(socket), pin!(watch));
    let mut timer = None;
    let mut open = true;
    poll_fn(|cx| {
        let timer =
            timer.get_or_insert_with(|| Arc::new(Timer { gone_off: true.into(), task: cx.waker().clone() }));
        if timer.gone_off.load(Ordering::Relaxed)
            && timer.gone_off.swap(false, Ordering::Acquire)
            && let Poll::Ready(never) = watch.as_mut().poll(&mut Context::from_waker(&timer.clone().into()))
        {
            match never {}
        }
        // A connection that the upstream has closed stays in the pool until it is looked at, or too old.
        open = open && socket.as_mut().poll(cx).is_pending();
        Poll::Pending
    })
    .await
}

/// Wakes a task and leaves word that it was the timer. A task's waker stays the same while the task lives.
struct Timer {
    gone_off: AtomicBool,
    task: Waker,
}

impl Wake for Timer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.gone_off.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
