use buttress_core::Facts;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Request};
use tokio::runtime::Handle;

use super::body::MirroredBody;
use super::event::NotMirrored;
use super::host;
use super::state::Place;

/// Shorter frames are copied into one: each may be all that is left of a buffer many times its size, which it holds.
const SHARED: usize = 1024;

/// The copy of a request, while it is being made. Once it is sent or left it is empty, and nothing more becomes of it;
/// dropped before that, it counts as incomplete.
pub(crate) struct Copy(Option<Unsent>);

struct Unsent {
    head: Parts,
    frames: Vec<Bytes>,
    /// The short frames after these.
    short: BytesMut,
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
        Self(Some(Unsent { head, frames: Vec::new(), short: BytesMut::new(), bytes: 0, place }))
    }

    /// Takes a frame. `false` when that is too much: then there is no copy.
    pub(crate) fn push(&mut self, data: &Bytes) -> bool {
        let Some(unsent) = &mut self.0 else { return false };
        let limit = unsent.place.state().rules.body_limit;
        if data.len() > limit - unsent.bytes {
            self.leave(NotMirrored::TooLong);
            return false;
        }
        unsent.bytes += data.len();
        if data.len() < SHARED {
            unsent.short.extend_from_slice(data);
        } else {
            unsent.join();
            unsent.frames.push(data.clone());
        }
        true
    }

    /// Sends it to the mirror.
    pub(crate) fn send(&mut self, trailers: Option<HeaderMap>) {
        let Some(mut unsent) = self.0.take() else { return };
        unsent.join();
        let Unsent { head, frames, place, .. } = unsent;
        let state = place.state().clone();
        let Ok(runtime) = Handle::try_current() else {
            drop(place);
            return state.drops(NotMirrored::NoRuntime);
        };
        // Before its end can be told, on another thread.
        state.mirrored();
        state.shadow.launch(&runtime, Request::from_parts(head, MirroredBody::new(frames, trailers)), place);
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

impl Unsent {
    /// Makes a frame of the short ones.
    fn join(&mut self) {
        if !self.short.is_empty() {
            self.frames.push(self.short.split().freeze());
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.leave(NotMirrored::Incomplete);
    }
}
