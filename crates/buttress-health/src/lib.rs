#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod event;
mod serve;
mod shutdown;

pub use event::HealthEvent;
pub use serve::Phase;
