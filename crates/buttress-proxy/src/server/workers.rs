use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::accept::Door;
use super::stage::{House, Stage};
use super::{Handler, Listener};

/// What serves the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// The tokio runtime that [`serve`](super::Server::serve) is called on.
    #[default]
    Here,
    /// So many threads, each with a current-thread runtime of its own: a connection stays on one of them, and nothing is
    /// locked or woken across threads on its way, as long as the service does neither. Zero is one per core.
    Threads(usize),
}

impl Workers {
    /// One thread for each core.
    #[must_use]
    pub const fn per_core() -> Self {
        Self::Threads(0)
    }

    pub(super) fn count(self) -> usize {
        match self {
            Self::Here => 1,
            Self::Threads(0) => std::thread::available_parallelism().map_or(1, usize::from),
            Self::Threads(threads) => threads,
        }
    }
}

/// Held by each accept loop: when all have let go, nothing is accepted any more.
pub(super) type Open = mpsc::Sender<Infallible>;

/// Starts the accept loops of `listeners`.
pub(super) fn start<S: Handler>(
    workers: Workers,
    door: &Arc<Door>,
    listeners: &mut [Listener],
    service: &S,
    open: &Open,
) -> io::Result<()> {
    let count = workers.count();
    for worker in 0..count {
        let mut sockets = Vec::new();
        for listener in &mut *listeners {
            listener.spread(count)?;
            sockets.extend(listener.share(worker, count)?);
        }
        let loops = sockets.into_iter().map({
            let (door, service, open) = (Arc::clone(door), service.clone(), open.clone());
            move |socket| Arc::clone(&door).accept(socket, service.clone(), open.clone())
        });
        if workers == Workers::Here {
            loops.for_each(|each| drop(tokio::spawn(each)));
        } else {
            thread(worker, loops, Arc::clone(&door.common.house))?;
        }
    }
    Ok(())
}

/// A thread that ends when the server has: until then connections live on it.
fn thread<L>(worker: usize, loops: L, house: Arc<House>) -> io::Result<()>
where
    L: Iterator<Item: Future<Output = ()> + Send + 'static> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        runtime.block_on(async {
            loops.for_each(|each| drop(tokio::spawn(each)));
            house.reached(Stage::Cut).await;
        });
        // What still runs has had its time.
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name(format!("buttress-{worker}")).spawn(run)?;
    Ok(())
}
