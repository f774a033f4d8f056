//! A copy of requests to a second service, whose answers nobody waits for.

mod body;
mod copy;
mod error;
mod event;
mod handle;
mod host;
mod layer;
mod service;
mod shadow;
mod state;

pub use body::{MirroredBody, TeeBody};
pub use error::MirrorError;
pub use event::{MirrorEnd, MirrorEvent, NotMirrored};
pub use handle::{MirrorCounts, MirrorHandle};
pub use layer::MirrorLayer;
pub use service::Mirror;
