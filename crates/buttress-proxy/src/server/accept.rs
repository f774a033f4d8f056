//! Connections in.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buttress_http::Peer;
use tokio::net::{TcpListener, TcpStream};

use super::caps::{Caps, Place};
use super::connection::Common;
use super::listener::{BACKLOG, Queue, Transport};
use super::race::race;
use super::rate::Rate;
use super::socket::Socket;
use super::stage::{Seat, Stage};
use super::workers::Open;
use super::{Event, Handler, Refusal};

/// How long to wait when the system gives no connection: those that end meanwhile give descriptors back.
const PAUSE: Duration = Duration::from_millis(100);

/// What decides about new connections, for all listeners together.
pub(super) struct Door {
    pub(super) common: Arc<Common>,
    pub(super) caps: Arc<Caps>,
    pub(super) rate: Option<Mutex<Rate>>,
}

impl Door {
    /// Accepts until the server drains, and then what the kernel has accepted before: those clients think that they are
    /// served, and closing the socket would reset them.
    pub(super) async fn accept<S: Handler>(self: Arc<Self>, queue: Queue, service: S, _open: Open) {
        let listener = match TcpListener::from_std(queue.socket) {
            Ok(listener) => listener,
            Err(error) => return self.common.options.tell(&Event::AcceptFailed { error: &error }),
        };
        // Accepted, and to be served when there is room.
        let mut held = None;
        let draining = self.common.house.reached(Stage::Draining);
        let _ = race(draining, self.serve(&listener, &queue.transport, service.clone(), &mut held)).await;
        if self.common.house.stage() == Stage::Cut {
            // Who waits in the queue may be another's to serve; here they would be cut off.
            return;
        }
        let waiting = waiting(listener).filter_map(|(stream, peer)| self.admit(stream, peer));
        for admitted in held.into_iter().chain(waiting) {
            self.open(admitted, &queue.transport, service.clone());
        }
    }

    async fn serve<S: Handler>(
        &self,
        listener: &TcpListener,
        transport: &Transport,
        service: S,
        held: &mut Option<Admitted>,
    ) {
        let options = &self.common.options;
        loop {
            self.wait_for_rate().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    *held = self.admit(stream, peer);
                    let Some(admitted) = held else { continue };
                    // The next ones wait in the kernel's queue, which is where a full server leaves them.
                    self.caps.enter(&mut admitted.place).await;
                    if let Some(admitted) = held.take() {
                        self.open(admitted, transport, service.clone());
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    options.tell(&Event::AcceptFailed { error: &error });
                    options.clock.sleep(PAUSE).await;
                }
            }
        }
    }

    async fn wait_for_rate(&self) {
        let Some(rate) = &self.rate else { return };
        let clock = &self.common.options.clock;
        loop {
            let taken = rate.lock().unwrap_or_else(PoisonError::into_inner).take(clock.now());
            match taken {
                Ok(()) => return,
                Err(then) => clock.sleep_until(then).await,
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Admitted> {
        let Some(place) = self.caps.client(peer.ip()) else {
            self.common.options.tell(&Event::Refused { peer, why: Refusal::ClientConnections });
            return None;
        };
        // Where it fails the client has gone.
        let _ = stream.set_nodelay(true);
        Some(Admitted { stream, peer, place, seat: self.common.house.seat() })
    }

    fn open<S: Handler>(&self, admitted: Admitted, transport: &Transport, service: S) {
        let Admitted { stream, peer, place, seat } = admitted;
        let socket = Socket::new(stream, peer, Arc::clone(&self.common.options), seat, place);
        tokio::spawn(Arc::clone(&self.common).serve(socket, transport.clone(), Peer(peer), service));
    }
}

/// A connection that is within its client's bound.
struct Admitted {
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    seat: Seat,
}

/// The client went away between its connecting and our accepting (accept(2) names these).
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The connections that the kernel has taken and we have not. Asked of the system itself: tokio may not have heard yet.
fn waiting(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    let next = move || {
        let (stream, peer) = loop {
            match listener.as_ref()?.accept() {
                Ok(accepted) => break accepted,
                Err(error) if is_the_clients(&error) => {}
                Err(_) => return None,
            }
        };
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(next).take(BACKLOG as usize)
}
