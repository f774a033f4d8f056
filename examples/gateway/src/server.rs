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

use buttress::{Clock, Peer, Sleep};
use http::Request;
use humantime::format_duration;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::net::TcpListener;

use crate::{
    config::Config,
    print::note,
    routes::Routes,
    sending::{Patience, Socket, Streams, Told},
    signals::Signals,
    stack::Stack,
};

/// How often an HTTP/2 client is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);
/// The most of one head, and of one body's bytes on their way, that a connection holds.
const BUFFER: usize = 64 * 1024;

/// Serves until the first signal, then drains; a second signal ends at once.
pub(crate) async fn serve(
    listener: TcpListener,
    config: &Config,
    routes: Routes<impl Stack>,
    signals: &mut Signals,
) -> ExitCode {
    let clock = Clock::default();
    let head = config.header_timeout();
    let patience = Patience { clock: clock.clone(), timeout: config.send_timeout() };
    let server = server(head, patience.clone());
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = signals.stop() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let connection = Connection {
                    socket: Socket::new(stream, patience.clone()),
                    peer,
                    watcher: connections.watcher(),
                    server: server.clone(),
                };
                tokio::spawn(connection.serve(routes.clone(), clock.sleep(head)));
            }
            // Out of descriptors, most likely: the connections that end meanwhile give some back.
            Err(error) => {
                note(format_args!("cannot accept a connection: {error}"));
                clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }

    drop(listener);
    let drain = config.drain();
    note(format_args!("draining for at most {}; the same signal again ends at once", format_duration(drain)));
    tokio::select! {
        () = connections.shutdown() => ExitCode::SUCCESS,
        () = clock.sleep(drain) => {
            note("the drain took too long: what was still in flight is cut off");
            ExitCode::SUCCESS
        }
        () = signals.stop() => ExitCode::from(130),
    }
}

fn server(head: Duration, patience: Patience) -> Builder<Streams> {
    let mut server = Builder::new(Streams(patience));
    // Without a timer hyper's head timeout never fires, and a slow head holds its connection for ever.
    server.http1().timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(BUFFER);
    // Pings find a client that vanished without closing.
    server.http2().timer(TokioTimer::new()).keep_alive_interval(PING).max_send_buf_size(BUFFER);
    server
}

struct Connection {
    socket: Socket,
    peer: SocketAddr,
    watcher: Watcher,
    server: Builder<Streams>,
}

impl Connection {
    /// Ends with the connection. Its errors are the client's: it went away, or spoke no HTTP.
    async fn serve(self, routes: Routes<impl Stack>, first_head: Sleep) {
        let peer = Peer(self.peer);
        let asked = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let asked = Arc::clone(&asked);
            move |mut request: Request<Incoming>| {
                asked.store(true, Relaxed);
                request.extensions_mut().insert(peer);
                let answer = routes.clone().call(request);
                async { answer.await.map(|answer| answer.map(Told::new)) }
            }
        });
        let connection = self.server.serve_connection(TokioIo::new(self.socket), service).into_owned();
        let mut connection = std::pin::pin!(self.watcher.watch(connection));

        // hyper's own timeout starts once it knows the protocol; a client that sends nothing never gets there.
        tokio::select! {
            _ = &mut connection => return,
            () = first_head => if !asked.load(Relaxed) { return },
        }
        let _ = connection.await;
    }
}
