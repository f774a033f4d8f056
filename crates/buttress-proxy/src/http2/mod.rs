//! HTTP/2 to an upstream: many exchanges on one connection, directly over `h2`.
//!
//! ```text
//!  Pool ── Multiplexed ─┬─ Multiplexer ── one connection, one task ─┬─ Exchange   a call, as a Checkout of the pool
//!                       │                                           └─ Exchange
//!                       └─ Multiplexer
//! ```
//!
//! A call takes a place on the first connection that has one, and opens its stream there. It pumps the request's body
//! itself while it waits for the head; what is left of the body then is carried by a task, until the answer is over.

mod answer;
mod exchange;
mod head;
mod multiplexed;
mod multiplexer;
mod upload;

pub(crate) use answer::Answer;
pub(crate) use exchange::Exchange;
pub(crate) use multiplexed::Multiplexed;
pub(crate) use multiplexer::{Multiplexer, handshake};
