//! Reads HTTP/1 before hyper does, and refuses what two readers could understand differently.
//!
//! hyper's parser is lenient where RFC 9112 lets a recipient be so, and hides what it has repaired: a `Content-Length`
//! beside a `Transfer-Encoding` is gone when a service sees the request. A gateway must not repair, since whoever stands
//! before or behind it may have understood the same bytes differently: that is request smuggling. So the bytes are read
//! here first, by a [`Scanner`] that takes less than hyper does.

mod alarm;
mod bad_request;
mod bytes;
mod checked;
mod chunks;
mod config;
mod connection;
mod field;
mod guard;
mod head;
mod limits;
mod line;
mod scanner;
mod target;
mod violation;

pub use bad_request::BadRequest;
pub use checked::{Checked, CheckedBody, CheckedFuture};
pub use config::Wire;
pub use connection::Connection;
pub use guard::Guard;
pub use limits::Limits;
pub use scanner::{Phase, Scanner, Step};
pub(super) use target::is_authority;
pub use violation::Violation;
