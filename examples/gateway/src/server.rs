//! Around the stack: connections in, HTTP/1.1 and HTTP/2 told apart, and the drain at the end.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::{Clock, Peer};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::net::{TcpListener, TcpStream};

use crate::{print::note, routes::Routes, signals::Signals, stack::Stack};

/// What a request in flight gets to finish after the first signal.
const DRAIN: Duration = Duration::from_secs(30);
/// What a client gets to send a request's head, and to send the first request at all.
const HEAD: Duration = Duration::from_secs(30);
/// The most of one head, and of one body's bytes on their way, that a connection holds.
const BUFFER: usize = 64 * 1024;

/// Serves until the first signal, then drains; a second signal ends at once.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Routes<impl Stack>,
    signals: &mut Signals,
) -> ExitCode {
    let clock = Clock::default();
    let server = server();
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = signals.stop() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection { stream, peer, watcher: connections.watcher() };
                tokio::spawn(connection.serve(server.clone(), routes.clone(), clock.clone()));
            }
            // Out of descriptors, most likely: the connections that end meanwhile give some back.
            Err(error) => {
                note(format_args!("cannot accept a connection: {error}"));
                clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }

    drop(listener);
    note(format_args!(
        "draining: connections open {}, at most {} s; the same signal again ends at once",
        connections.count(),
        DRAIN.as_secs(),
    ));
    tokio::select! {
        () = connections.shutdown() => ExitCode::SUCCESS,
        () = clock.sleep(DRAIN) => {
            note("the drain took too long: what was still in flight is cut off");
            ExitCode::SUCCESS
        }
        () = signals.stop() => ExitCode::from(130),
    }
}

fn server() -> Builder<TokioExecutor> {
    let mut server = Builder::new(TokioExecutor::new());
    // Without a timer hyper's head timeout never fires, and a slow head holds its connection for ever.
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    // Pings find a client that vanished without closing.
    server.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD).max_send_buf_size(BUFFER);
    server
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    watcher: Watcher,
}

impl Connection {
    /// Ends with the connection. Its errors are the client's: it went away, or spoke no HTTP.
    async fn serve(self, server: Builder<TokioExecutor>, routes: Routes<impl Stack>, clock: Clock) {
        let _ = self.stream.set_nodelay(true);
        let peer = Peer(self.peer);
        let asked = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let asked = Arc::clone(&asked);
            move |mut request: Request<Incoming>| {
                asked.store(true, Relaxed);
                request.extensions_mut().insert(peer);
                routes.clone().call(request)
            }
        });
        let connection = server.serve_connection(TokioIo::new(self.stream), service).into_owned();
        let mut connection = std::pin::pin!(self.watcher.watch(connection));

        // hyper's own timeout starts once it knows the protocol; a client that sends nothing never gets there.
        tokio::select! {
            _ = &mut connection => return,
            () = clock.sleep(HEAD) => if !asked.load(Relaxed) { return },
        }
        let _ = connection.await;
    }
}
