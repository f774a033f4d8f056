//! Keeps a client at the endpoint that served it before, by a signed cookie.

mod attributes;
mod cookies;
mod error;
mod event;
mod future;
mod handle;
mod layer;
mod service;
mod state;
mod table;
mod value;

pub use attributes::SameSite;
pub use error::StickyError;
pub use event::StickyEvent;
pub use future::StickyFuture;
pub use handle::{StickyCounts, StickyHandle};
pub use layer::{StickyCookie, StickyKeys, StickyLayer};
pub use service::Sticky;
