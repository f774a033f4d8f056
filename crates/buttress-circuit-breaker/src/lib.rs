#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod breaker;
mod error;
mod keyed;
mod policy;
mod sync;
mod window;

pub use breaker::{Admission, Breaker, Recorded, Refused, View};
pub use error::SettingsError;
pub use keyed::{Asked, Keyed, Place};
pub use policy::{Judged, Mode, OnDrop, Ramp, Reason, Rules, Settings, State, Sums, Transition, Window};
