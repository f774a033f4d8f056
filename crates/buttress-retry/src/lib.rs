#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "http"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the pages are of the whole crate, and some of it needs `http`"
    )
)]

mod answers;
mod budget;
mod event;
mod future;
mod handle;
mod hedge;
mod layer;
mod ledger;
mod policy;
mod proof;
mod replay;
mod service;
mod sync;
mod within;

pub use answers::Answers;
pub use budget::Budget;
pub use event::RetryEvent;
pub use future::RetryFuture;
pub use handle::{Handle, Snapshot};
pub use hedge::{Hedge, HedgeEvent, HedgeFuture, HedgeHandle, HedgeLayer, HedgeSnapshot};
pub use layer::RetryLayer;
pub use policy::{Backoff, Jitter, SettingError, Skip};
pub use replay::{Cloning, Http, Reads, Repeat, Replay, ReplayPool, Replaying};
pub use service::Retry;
pub use within::{NoTimeout, WithTimeout, Within};

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use replay::{ReplayBody, RetrySafe};
