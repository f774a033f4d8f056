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
use humantime::format_duration;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use tower::ServiceExt;

use crate::{
    config::Config,
    inbound::Inbound,
    print::note,
    sending::{Patience, Socket, Streams, Told},
    signals::Signals,
    stack::Stack,
};

/// How often an HTTP/2 client is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);
/// The most of one head, and of one body's bytes on their way, that a connection holds.
const BUFFER: usize = 64 * 1024;
/// The most connections that the kernel holds ready for us: what tokio asks for.
const BACKLOG: usize = 1024;
/// What a client that connected before the drain, and has not asked for anything, gets to do so.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Serves until the first signal, then drains; a second signal ends at once.
pub(crate) async fn serve(
    listener: TcpListener,
    config: &Config,
    service: impl Stack,
    signals: &mut Signals,
) -> ExitCode {
    let clock = Clock::default();
    let head = config.header_timeout();
    let patience = Patience { clock: clock.clone(), timeout: config.send_timeout() };
    let server = server(head, patience.clone());
    // Told when the drain begins; closed when the last connection has let go of its end.
    let (drain_begins, draining) = watch::channel(());
    let open = |stream: TcpStream, peer| {
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            socket: Socket::new(stream, patience.clone()),
            peer,
            server: server.clone(),
            clock: clock.clone(),
            head,
            draining: draining.clone(),
        };
        tokio::spawn(connection.serve(service.clone()));
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = signals.stop() => break,
        };
        match accepted {
            Ok((stream, peer)) => open(stream, peer),
            // Out of descriptors, most likely: the connections that end meanwhile give some back.
            Err(error) => {
                note(format_args!("cannot accept a connection: {error}"));
                clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }

    // First, so that an answer that is finished from here on says `Connection: close`.
    drain_begins.send_replace(());
    for (stream, peer) in backlog(listener) {
        open(stream, peer);
    }
    drop(draining);
    let drain = config.drain();
    note(format_args!("draining for at most {}; the same signal again ends at once", format_duration(drain)));
    tokio::select! {
        () = drain_begins.closed() => ExitCode::SUCCESS,
        () = clock.sleep(drain) => {
            note("the drain took too long: what was still in flight is cut off");
            ExitCode::SUCCESS
        }
        () = signals.stop() => ExitCode::from(130),
    }
}

/// The connections that the kernel has taken and we have not: their clients think that they are served. Closing the
/// listener, which follows, would reset them.
fn backlog(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    let next = move || {
        let (stream, peer) = listener.as_ref()?.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(next).take(BACKLOG)
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
    server: Builder<Streams>,
    clock: Clock,
    head: Duration,
    draining: watch::Receiver<()>,
}

/// Whether the client has asked for anything yet.
#[derive(Default)]
struct Asked {
    before: AtomicBool,
    first: Notify,
}

impl Connection {
    /// Ends with the connection. Its errors are the client's: it went away, or spoke no HTTP.
    async fn serve(mut self, stack: impl Stack) {
        let peer = Peer(self.peer);
        let asked = Arc::new(Asked::default());
        let service = service_fn({
            let asked = Arc::clone(&asked);
            move |mut request: Request<Incoming>| {
                if !asked.before.swap(true, Relaxed) {
                    asked.first.notify_one();
                }
                request.extensions_mut().insert(peer);
                let answer = stack.clone().oneshot(request.map(Inbound::from));
                async { answer.await.map(|answer| answer.map(Told::new)) }
            }
        });
        let connection = self.server.serve_connection(TokioIo::new(self.socket), service).into_owned();
        let mut connection = std::pin::pin!(connection);

        // hyper's own timeout starts once it knows the protocol; a client that sends nothing never gets there. And it
        // would drop a connection that is told to end before that, with a request that has arrived and is not yet read.
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = asked.first.notified() => {}
            () = self.clock.sleep(self.head) => return,
            () = begun_for(&mut self.draining, &self.clock, LAST_WORD) => {}
        }
        tokio::select! {
            _ = &mut connection => return,
            () = begun_for(&mut self.draining, &self.clock, Duration::ZERO) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Completes when the drain has gone on for so long.
async fn begun_for(draining: &mut watch::Receiver<()>, clock: &Clock, duration: Duration) {
    // Where the server itself is gone, the drain has begun too.
    let _ = draining.changed().await;
    draining.mark_changed();
    clock.sleep(duration).await;
}
