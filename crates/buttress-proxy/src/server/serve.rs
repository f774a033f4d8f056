//! The life of a server, from its first accept loop to its last connection.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};

#[cfg(target_os = "linux")]
use buttress_core::Clock;
use tokio::sync::mpsc;

use super::accept::Door;
use super::builder::Told;
use super::caps::Caps;
use super::connection::Common;
use super::options::Options;
use super::race::race;
use super::rate::Rate;
use super::stage::{House, Stage};
use super::{Event, Handler, Server, workers};

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// How many connections were cut off, since the drain took too long or was aborted.
    pub cut: usize,
}

pub(super) async fn serve<S: Handler>(server: Server, service: S) -> io::Result<Ended> {
    let Server { mut listeners, options, workers, shutdown, abort, .. } = server;
    let options = Arc::new(options);
    let house = House::new();
    let _end = CutOnDrop(Arc::clone(&house));
    let door = Arc::new(Door {
        caps: Caps::new(options.max_connections, options.max_per_client),
        rate: options.accept_rate.map(|(per_second, burst)| Mutex::new(Rate::new(per_second, burst))),
        common: Arc::new(Common::new(Arc::clone(&options), Arc::clone(&house))),
    });
    let (open, closed) = mpsc::channel(1);
    workers::start(workers, &door, &mut listeners, &service, &open)?;
    #[cfg(target_os = "linux")]
    let succession = match server.takeover {
        Some(takeover) => Some(takeover.begin(&listeners).await?),
        None => None,
    };
    // From here on each loop has the sockets to itself: where the last one ends, the port is free.
    drop((listeners, service, door, open));

    let over = async {
        #[cfg(target_os = "linux")]
        let _ = race(told(shutdown), followed(succession, &options.clock)).await;
        #[cfg(not(target_os = "linux"))]
        told(shutdown).await;
        drain(&options, &house, closed).await;
    };
    let _ = race(over, told(abort)).await;
    let cut = house.taken();
    if cut > 0 {
        options.tell(&Event::Cut { connections: cut });
    }
    Ok(Ended { cut })
}

/// Whatever ends the server ends its connections.
struct CutOnDrop(Arc<House>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.enter(Stage::Cut);
    }
}

async fn told(told: Option<Told>) {
    match told {
        Some(told) => told.await,
        None => pending().await,
    }
}

#[cfg(target_os = "linux")]
async fn followed(succession: Option<super::takeover::Succession>, clock: &Clock) {
    match succession {
        Some(succession) => succession.followed(clock).await,
        None => pending().await,
    }
}

/// Completes when the last connection has ended, and with the end of the time for that.
async fn drain(options: &Options, house: &House, mut closed: mpsc::Receiver<Infallible>) {
    options.tell(&Event::DrainBegins { connections: house.taken() });
    house.enter(Stage::Draining);
    let emptied = async {
        // First the accept loops: what they still find is among the connections then.
        let _ = closed.recv().await;
        house.emptied().await;
    };
    let _ = race(emptied, options.clock.sleep(options.drain)).await;
}
