#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod decision;
mod event;
mod future;
mod gate;
mod handle;
mod layer;
mod plan;
mod policy;
mod service;
mod set;
mod store;
mod sync;
mod table;
mod tally;

pub use decision::Decision;
pub use event::RateLimitEvent;
pub use future::RateLimitFuture;
pub use gate::MissingKey;
pub use handle::{Handle, Snapshot};
pub use layer::RateLimitLayer;
pub use policy::{
    CarryOver, FixedWindow, Gcra, LeakyBucket, Left, Limit, LimitError, LimitState, Policy, Ruling,
    SlidingLog, SlidingLogState, SlidingStrict, SlidingStrictState, SlidingWindow, SlidingWindowState,
};
pub use service::RateLimit;
pub use store::{KeyHash, Memory, WhenFull};

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use buttress_http::{key, reject};
