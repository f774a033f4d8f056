#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "http"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the pages are of the whole crate, and some of it needs `http`"
    )
)]

mod breaker;
mod call;
mod error;
mod event;
mod future;
mod gate;
mod handle;
mod keyed;
mod label;
mod layer;
mod policy;
mod service;
mod sync;
mod tally;
mod teller;
#[cfg(feature = "http")]
mod to_end;
mod units;
mod window;

pub use breaker::{Admission, Breaker, Recorded, Refused, View};
pub use call::Call;
pub use error::SettingsError;
pub use event::CircuitBreakerEvent;
pub use future::CircuitBreakerFuture;
pub use handle::{Counts, Handle};
pub use keyed::{Asked, Keyed, Place};
pub use layer::CircuitBreakerLayer;
pub use policy::{Judged, Mode, OnDrop, Ramp, Reason, Rules, Settings, State, Sums, Transition, Window};
pub use service::CircuitBreaker;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use to_end::ToEnd;

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use buttress_http::{classify, key, reject};
