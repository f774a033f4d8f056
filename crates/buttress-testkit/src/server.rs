use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tower_service::Service;

use crate::BoxError;

/// A hyper server on a free loopback port, for the length of a test.
///
/// It serves HTTP/1.1 (with upgrades) and HTTP/2 with prior knowledge, whichever the client speaks, and gives each
/// connection a clone of the service. [`stop`](Self::stop) drains it; dropping it ends every connection at
/// once.
///
/// ```
/// use buttress_testkit::{ScriptedBody, Server};
/// use http::Response;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let server = Server::start(tower::service_fn(|_| async {
///     Ok::<_, std::convert::Infallible>(Response::new(ScriptedBody::new().data("hello")))
/// }))
/// .await;
///
/// // Let a client of yours call `server.url("/")` here.
/// assert!(server.url("/").starts_with("http://127.0.0.1:"));
/// server.stop().await;
/// # });
/// ```
pub struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    drain: watch::Sender<bool>,
    task: AbortOnDrop,
}

impl Server {
    /// Serves `service`, on the runtime of the caller.
    ///
    /// # Panics
    ///
    /// When no loopback port is free, or outside a tokio runtime.
    pub async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (drain, drained) = watch::channel(false);
        let connections = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(accept(listener, service, connections.clone(), drained));
        Self { address, connections, drain, task: AbortOnDrop(task) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>` and `path`, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Takes no new connection, lets each open one finish what it is doing, and returns when all have ended.
    ///
    /// A service that panics ends its connection, which is for the client to notice, and not this.
    pub async fn stop(mut self) {
        self.drain.send_replace(true);
        // The accept loop neither panics nor is aborted while we hold it.
        let _ = (&mut self.task.0).await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept<S, B>(
    listener: TcpListener,
    service: S,
    count: Arc<AtomicUsize>,
    mut drained: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = asked(&mut drained) => break,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                count.fetch_add(1, Ordering::AcqRel);
                connections.spawn(serve(stream, service.clone(), drained.clone()));
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve<S, B>(stream: TcpStream, service: S, mut drained: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    // A failed setting shows as a slow test at worst.
    let _ = stream.set_nodelay(true);
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = asked(&mut drained) => {
            connection.as_mut().graceful_shutdown();
            // The client may have gone away; a test sees that from its own side.
            let _ = connection.await;
        }
    }
}

/// Returns when the server was told to stop.
async fn asked(drained: &mut watch::Receiver<bool>) {
    // An error says that the server is gone, and this task with it.
    let _ = drained.wait_for(|drained| *drained).await;
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(pub(crate) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
