#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
mod alloc;
mod body;
mod contract;
#[cfg(feature = "server")]
mod server;
mod service;
mod task;
mod time;
mod types;
#[cfg(feature = "server")]
mod upstream;

#[cfg(feature = "alloc")]
pub use alloc::{allocations, held_bytes};
pub use body::{BodyHandle, ScriptedBody};
pub use buttress_core::BoxError;
#[doc(hidden)]
pub use contract::Shape;
pub use contract::{
    Answer, Contract, Exchange, Failure, Http, Inner, Plain, Point, Report, Subject, Tripwire, contract,
    http_contract,
};
#[cfg(feature = "server")]
pub use server::Server;
pub use service::{Fault, StrictFuture, StrictHandle, StrictService};
pub use task::{POLLS_PER_EVENT, Task, WakeCounter, poll_once};
pub use time::{advance, settle};
pub use types::{assert_send, assert_send_sync_clone_unpin};
#[cfg(feature = "server")]
pub use upstream::{Received, Reply, Upstream};
