#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "http"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the pages are of the whole crate, and some of it needs `http`"
    )
)]

#[cfg(feature = "http")]
mod body;
mod call;
#[cfg(feature = "http")]
mod deadline;
mod event;
mod future;
mod layer;
#[cfg_attr(
    not(any(feature = "http", test)),
    expect(dead_code, reason = "only bodies have idle and upload timeouts")
)]
mod policy;
mod race;
mod reach;
mod service;
mod shared;
#[cfg(feature = "http")]
mod upload;

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use body::{TimeoutBody, TimeoutBodyError};
#[cfg(feature = "http")]
#[doc(no_inline)]
pub use buttress_http::body::AtEnd;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use deadline::{Deadline, DeadlineFuture, DeadlineLayer};
pub use event::TimeoutEvent;
pub use future::TimeoutFuture;
pub use layer::TimeoutLayer;
pub use reach::{Reach, Sends};
pub use service::Timeout;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use upload::{AfterUpload, UploadBody};
