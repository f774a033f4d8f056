#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod body;
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub mod client;
pub mod key;
mod lift;
mod peer;

pub use lift::{LiftBodies, LiftBodiesFuture, LiftBodiesLayer};
pub use peer::Peer;
