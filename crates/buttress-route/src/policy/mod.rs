//! Which route takes a request: pure functions of its head, and of its body where that was read.

mod condition;
mod host;
mod method;
mod path;
mod table;
mod template;
mod tree;

pub(crate) use condition::{Conditions, Head, Json};
pub(crate) use host::{HostPattern, check_name};
pub(crate) use method::Methods;
pub use path::ambiguity;
pub(crate) use table::{Found, Parsed, RouteInfo, Table};
pub(crate) use template::{Piece, Template, pieces};
pub(crate) use tree::Ranges;
