//! The policies: plain values that order endpoints for a hash.

mod any;
mod bounded;
mod cycle;
mod draws;
mod fixed;
mod jump;
mod levels;
mod maglev;
mod modulo;
mod points;
mod preset;
mod random;
mod rendezvous;
mod ring;
mod round_robin;
mod slow_start;
mod subset;

pub use any::{AnyPicker, AnyPolicy};
pub use bounded::{BoundedLoad, Loads};
pub use fixed::{ModuloRules, RandomRules, RoundRobinRules, Static};
pub use jump::jump;
pub use levels::{Level, Levels, Outlook, Part, Place, Priorities, Tier};
pub use maglev::{Maglev, MaglevWalk};
pub use modulo::{Modulo, ModuloWalk};
pub use preset::Ring;
pub use random::{Random, RandomWalk};
pub use rendezvous::{Rendezvous, RendezvousWalk};
pub use ring::{HashRing, RingWalk};
pub use round_robin::{RoundRobin, RoundRobinWalk};
pub use slow_start::{Ramp, SlowStart};
pub use subset::Subset;

pub(crate) use points::MOST_POINTS;
