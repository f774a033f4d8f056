//! One line for each request, written beside the requests and not among them.
//!
//! ```text
//! request ──fills──► Call ──when it is over──► queue, bounded ──► one thread: makes lines, writes them many at a time
//!                                              full: left out, and counted
//! ```
//!
//! A request never waits for a disk or for whoever reads a pipe. It pays for the record of what it was, and for a place in
//! the queue.

mod call;
mod line;
mod output;
mod writer;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

pub(crate) use call::{Call, Ended, request_id};
pub(crate) use line::Format;
use output::Output;
pub(crate) use output::Target;
use writer::{Control, Message};

/// What is written, where, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) format: Format,
    /// Whether the path is written with its query, which may hold what is nobody else's business.
    pub(crate) query: bool,
    /// How many requests that are over may wait for the writer.
    pub(crate) queue: usize,
}

/// The log. A clone writes to the same one; it ends when the last is dropped.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    query: bool,
    control: Control,
    lost: AtomicU64,
}

impl AccessLog {
    /// Opens the file, and starts the thread that writes.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for appending, or no thread can be started.
    pub(crate) fn open(settings: &Settings) -> io::Result<Self> {
        let output = Output::open(&settings.target)?;
        let (queue, messages) = sync_channel(settings.queue);
        let shared =
            Arc::new(Shared { query: settings.query, control: Control::default(), lost: AtomicU64::new(0) });
        let (format, of_writer) = (settings.format, Arc::clone(&shared));
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer::write(&messages, output, format, &of_writer))?;
        Ok(Self { queue, shared })
    }

    /// Whether paths are written with their query.
    pub(crate) fn with_query(&self) -> bool {
        self.shared.query
    }

    /// Hands a request that is over to the writer. Where the queue is full the request is counted as lost.
    pub(crate) fn write(&self, call: Arc<Call>) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(Message::Call(call))
        {
            self.shared.lost.fetch_add(1, Relaxed);
        }
    }

    /// How many requests have no line: the queue was full, or the output failed.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// Opens the file anew, for who has moved the old one away. What is in the queue goes to the old one.
    pub(crate) fn reopen(&self) {
        self.shared.control.ask_to_reopen();
        self.wake();
    }

    /// Has what is in the queue written, and waits for that; gives up after `patience`, as whoever reads may have stopped.
    pub(crate) fn flush(&self, patience: Duration) {
        let number = self.shared.control.ask_to_flush();
        self.wake();
        self.shared.control.wait_for_flush(number, patience);
    }

    fn wake(&self) {
        // A full queue is as good: the writer is awake, and looks once it is through.
        let _ = self.queue.try_send(Message::Look);
    }
}
