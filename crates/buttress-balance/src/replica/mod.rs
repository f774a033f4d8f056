//! Writes to a primary, reads to its replicas, and each one's own writes read back.

mod error;
mod event;
mod future;
mod handle;
mod policy;
mod rules;
mod service;
mod tokens;

pub use error::ReplicaError;
pub use event::ReplicaSplitEvent;
pub use future::ReplicaSplitFuture;
pub use handle::{ReplicaSplitCounts, ReplicaSplitHandle, ReplicaView};
pub use policy::{Diverted, ReplicaPolicy, ReplicaRules, Route};
pub use service::ReplicaSplit;
pub use tokens::{CarriedTokens, NoTokens, Tokens, WrittenTokens};
