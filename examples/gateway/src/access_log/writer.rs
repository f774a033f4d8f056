//! The thread that writes.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed, mpsc::Receiver},
    time::Duration,
};

use super::{Call, Format, Output, Shared};
use crate::print::note;

/// How long the first line of many waits for those after it. While the writer waits here, a request that ends wakes nobody.
const GATHER: Duration = Duration::from_millis(10);
/// So much is written at once.
const BATCH: usize = 64 * 1024;

/// What comes through the queue.
#[derive(Debug)]
pub(super) enum Message {
    /// A request that is over.
    Call(Arc<Call>),
    /// Something is asked of the writer.
    Look,
}

/// What is asked of the writer beside the queue.
#[derive(Debug, Default)]
pub(super) struct Control {
    asked: Mutex<Asked>,
    /// Something is asked.
    word: Condvar,
    /// A flush is done.
    done: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    reopen: bool,
    /// The numbers of the last flush that was asked for, and of the last one that is done.
    flush: u64,
    flushed: u64,
}

impl Asked {
    const fn is_pending(&self) -> bool {
        self.reopen || self.flush > self.flushed
    }
}

impl Control {
    pub(super) fn ask_to_reopen(&self) {
        self.lock().reopen = true;
        self.word.notify_one();
    }

    pub(super) fn ask_to_flush(&self) -> u64 {
        let mut asked = self.lock();
        asked.flush += 1;
        self.word.notify_one();
        asked.flush
    }

    pub(super) fn wait_for_flush(&self, number: u64, patience: Duration) {
        let pending = |asked: &mut Asked| asked.flushed < number;
        let _ = self.done.wait_timeout_while(self.lock(), patience, pending);
    }

    /// Waits a moment, unless something is asked.
    fn gather(&self) {
        let _ = self.word.wait_timeout_while(self.lock(), GATHER, |asked| !asked.is_pending());
    }

    fn take(&self) -> Asked {
        let mut asked = self.lock();
        let taken = *asked;
        asked.reopen = false;
        taken
    }

    /// What was asked up to this flush is done. Whether there is more by now.
    fn done_up_to(&self, flush: u64) -> bool {
        let mut asked = self.lock();
        asked.flushed = flush;
        self.done.notify_all();
        asked.is_pending()
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until all who send are gone.
pub(super) fn write(messages: &Receiver<Message>, mut output: Output, format: Format, shared: &Shared) {
    let mut batch = Batch::default();
    let mut told = 0;
    while let Ok(first) = messages.recv() {
        batch.add(first, format);
        shared.control.gather();
        loop {
            // What is asked is asked of what came before it.
            let asked = shared.control.take();
            while let Ok(next) = messages.try_recv() {
                batch.add(next, format);
                if batch.text.len() >= BATCH {
                    batch.write(&mut output, shared);
                }
            }
            batch.write(&mut output, shared);
            if asked.reopen
                && let Err(error) = output.reopen()
            {
                note(format_args!("{error}; the file that is open stays in use"));
            }
            let lost = shared.lost.load(Relaxed);
            if lost > told {
                note(format_args!("access log: {} requests have no line", lost - told));
                told = lost;
            }
            // Once more where something was asked meanwhile: with a full queue no message told of it.
            if !shared.control.done_up_to(asked.flush) {
                break;
            }
        }
    }
}

/// Lines that are written at once.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    lines: u64,
}

impl Batch {
    fn add(&mut self, message: Message, format: Format) {
        if let Message::Call(call) = message {
            format.write(&call, &mut self.text);
            self.lines += 1;
        }
    }

    fn write(&mut self, output: &mut Output, shared: &Shared) {
        if self.lines > 0
            && let Err(error) = output.write(&self.text)
        {
            note(format_args!("access log: {error}"));
            shared.lost.fetch_add(self.lines, Relaxed);
        }
        self.lines = 0;
        self.text.clear();
        // One long moment must not be paid for ever after.
        self.text.shrink_to(2 * BATCH);
    }
}
