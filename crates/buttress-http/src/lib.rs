#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod answer;
pub mod body;
pub mod classify;
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub mod client;
mod details;
pub mod field;
mod grpc;
pub mod key;
mod lift;
mod orca;
mod peer;
mod problem;
mod ratelimit;
pub mod reject;
mod scheme;

pub use lift::{LiftBodies, LiftBodiesFuture, LiftBodiesLayer};
pub use peer::Peer;
pub use problem::Problem;
pub use scheme::Scheme;
