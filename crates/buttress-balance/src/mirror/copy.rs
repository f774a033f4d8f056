use buttress_core::Facts;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request};

use super::body::MirroredBody;
use super::event::NotMirrored;
use super::host;
use super::state::Place;

/// A body of that many frames is not copied, however short they are: each holds on to a buffer of its own.
const MOST_FRAMES: usize = 1024;

/// The copy of a request, while it is being made. Once it is sent or left it is empty, and nothing more becomes of it;
/// dropped before that, it counts as incomplete.
pub(crate) struct Copy(Option<Unsent>);

struct Unsent {
    head: Parts,
    frames: Vec<Bytes>,
    bytes: usize,
    place: Place,
}

impl Copy {
    /// Of this head, and nothing of the body yet.
    pub(crate) fn new(mut head: Parts, place: Place) -> Self {
        // The deadline, the attempts and the trail are those of the main call.
        head.extensions.remove::<Facts>();
        if place.state().rules.shadow_host {
            host::mark(&mut head);
        }
        Self(Some(Unsent { head, frames: Vec::new(), bytes: 0, place }))
    }

    /// Takes a frame. `false` when that is too much: then there is no copy.
    pub(crate) fn push(&mut self, data: &Bytes) -> bool {
        let Some(unsent) = &mut self.0 else { return false };
        let limit = unsent.place.state().rules.body_limit;
        if data.len() > limit - unsent.bytes || unsent.frames.len() >= MOST_FRAMES {
            self.leave(NotMirrored::TooLong);
            return false;
        }
        if !data.is_empty() {
            unsent.bytes += data.len();
            unsent.frames.push(data.clone());
        }
        true
    }

    /// Sends it to the mirror.
    pub(crate) fn send(&mut self, trailers: Option<HeaderMap>) {
        let Some(Unsent { head, frames, place, .. }) = self.0.take() else { return };
        let state = place.state().clone();
        let request = Request::from_parts(head, MirroredBody::new(frames, trailers));
        if state.shadow.launch(request, place) {
            state.mirrored();
        } else {
            state.drops(NotMirrored::NoRuntime);
        }
    }

    pub(crate) fn leave(&mut self, reason: NotMirrored) {
        if let Some(Unsent { place, .. }) = self.0.take() {
            let state = place.state().clone();
            // What it held is free before anyone is told.
            drop(place);
            state.drops(reason);
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.leave(NotMirrored::Incomplete);
    }
}
