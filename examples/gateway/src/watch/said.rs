//! What a layer has said of an answer that is on its way up.
//!
//! An observer is told of a failure, and not of the request. But it is told while the answer is made, in the same poll and
//! on the same thread in which those above get it. So the word is left where they find it.

use std::cell::Cell;

thread_local! {
    static SAID: Cell<Said> = const { Cell::new(Said { failed: None, routed: false }) };
}

#[derive(Clone, Copy)]
struct Said {
    failed: Option<&'static str>,
    routed: bool,
}

/// An error becomes an answer.
pub(super) fn failed(reason: &'static str) {
    SAID.set(Said { failed: Some(reason), ..SAID.get() });
}

/// Why the answer that has come up now is one of ours.
pub(super) fn take_failed() -> Option<&'static str> {
    let said = SAID.get();
    SAID.set(Said { failed: None, ..said });
    said.failed
}

/// A route answers.
pub(super) fn routed() {
    SAID.set(Said { routed: true, ..SAID.get() });
}

/// Whether it was a route that answered now.
pub(super) fn take_routed() -> bool {
    let said = SAID.get();
    SAID.set(Said { routed: false, ..said });
    said.routed
}
