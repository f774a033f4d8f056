//! What a proxy changes in the head of a message: pure functions of the head.

mod forwarded;
mod hide;
mod hop_by_hop;
mod length;
mod names;
mod request;
mod response;
mod via;

pub(crate) use forwarded::{is_node, quote_into};
pub use hop_by_hop::{HopByHop, remove_hop_by_hop};
pub(crate) use hop_by_hop::{is_essential, split};
pub(crate) use request::forward_request;
pub(crate) use response::{forward_response, forward_switch};
pub(crate) use via::Via;
