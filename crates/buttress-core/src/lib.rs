#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod alarm;
mod clock;
mod counters;
mod draw;
mod endpoint;
mod endpoints;
mod error;
mod facts;
mod key;
mod lift;
mod load_report;
mod name;
mod on_call;
mod outcome;
pub mod reject;
mod rejection;
mod sleepers;
mod store;
mod time;

pub use access::{Access, AccessOf, BySafety};
pub use clock::{Clock, ManualClock, Sleep};
pub use counters::Counters;
pub use draw::{Chance, draw};
pub use endpoint::{Activity, Changed, Condition, Endpoint, Health};
pub use endpoints::{Endpoints, EndpointsError, Following};
pub use error::{BoxError, Cause, Error, FromRejection, MaybeSent, NothingSent};
pub use facts::{EndpointId, Facts, HasFacts, Trail};
pub use key::{Costed, Global, HashSeeds, HashSink, Key, KeyPart, KeySink};
pub use lift::{LiftErrors, LiftErrorsFuture, LiftErrorsLayer};
pub use load_report::LoadReport;
pub use name::Name;
pub use on_call::{OnCall, OnCallFuture, Strict, Wrap};
pub use outcome::{
    AtHead, ByCause, Classify, End, ErrIsFailure, Finish, Guard, Outcome, OutcomeKind, Verdict,
};
pub use reject::{Fail, Reject};
pub use rejection::{Quota, Rejection, RejectionKind};
pub use store::{Answer, Decided, Store};
pub use time::{Timestamp, nanos};
