#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "http"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the pages are of the whole crate, and some of it needs `http`"
    )
)]

mod decision;
mod event;
mod future;
mod gate;
mod handle;
mod layer;
mod line;
mod live;
mod one;
mod packed;
mod pick;
mod plan;
mod plans;
mod policy;
mod ranked;
pub mod rules;
mod scale;
mod service;
mod set;
pub mod settle;
mod store;
mod sync;
mod table;
mod tally;
mod top;

pub use decision::Decision;
pub use event::RateLimitEvent;
pub use future::RateLimitFuture;
pub use gate::MissingKey;
pub use handle::{Handle, LimitCounts, Snapshot};
pub use layer::RateLimitLayer;
pub use pick::Pick;
pub use plans::{PlanLimits, Plans};
pub use policy::{
    CarryOver, FixedWindow, Gcra, LeakyBucket, Left, Limit, LimitError, LimitState, Policy, Ruling,
    SlidingLog, SlidingLogState, SlidingStrict, SlidingStrictState, SlidingWindow, SlidingWindowState,
};
pub use service::RateLimit;
#[doc(no_inline)]
pub use settle::Charge;
pub use store::{KeyHash, Memory, WhenFull};
pub use top::TopKey;

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use buttress_http::{key, reject};
