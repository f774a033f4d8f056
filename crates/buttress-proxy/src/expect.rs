//! A client that waits for the upstream's word before it sends its body: `Expect: 100-continue` (RFC 9110 §10.1.1).
//!
//! ```text
//!   Waiting ──100 from the upstream, or the time is up──▶ Open: the body is asked for, and so the client gets its 100
//!   Waiting ──an answer──▶ the body is never asked for, and the client never sends it
//! ```

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_core::{Clock, Sleep};
use http::{Request, StatusCode};

/// Holds the body of a request back until the upstream asks for it.
pub(crate) struct Gate {
    word: Arc<Mutex<Word>>,
    clock: Clock,
    timeout: Duration,
    /// Set when the head is on its way.
    alarm: Option<Pin<Box<Sleep>>>,
}

#[derive(Default)]
struct Word {
    given: bool,
    waker: Option<Waker>,
}

impl Gate {
    /// A gate that the upstream's 100 opens. It stands open until it is [shut](Self::shut).
    pub(crate) fn new<B>(request: &mut Request<B>, clock: &Clock, timeout: Duration) -> Box<Self> {
        let word = Arc::new(Mutex::new(Word::default()));
        let given = word.clone();
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                let mut word = given.lock().unwrap_or_else(PoisonError::into_inner);
                word.given = true;
                let waker = word.waker.take();
                drop(word);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        });
        Box::new(Self { word, clock: clock.clone(), timeout, alarm: None })
    }

    /// From now on the upstream has the head, and so much time to say a word.
    pub(crate) fn shut(&mut self) {
        self.alarm = Some(Box::pin(self.clock.sleep(self.timeout)));
    }

    pub(crate) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(alarm) = &mut self.alarm else { return Poll::Ready(()) };
        let mut word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        if !word.given && alarm.as_mut().poll(cx).is_pending() {
            word.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(word);
        self.alarm = None;
        Poll::Ready(())
    }
}
