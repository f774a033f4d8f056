//! What a proxy changes in the head of a message: pure functions of the head.

mod forwarded;
mod hop_by_hop;
mod length;
mod request;
mod response;
mod via;

pub use hop_by_hop::{HopByHop, remove_hop_by_hop};
pub(crate) use request::forward_request;
pub(crate) use response::forward_response;
pub(crate) use via::Via;
