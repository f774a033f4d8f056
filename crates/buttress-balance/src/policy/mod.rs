//! The policies: plain values that order endpoints for a hash.

mod any;
mod average;
mod bandwidth;
mod bounded;
mod choice;
mod connections;
mod cycle;
mod draws;
mod fixed;
mod hot_cold;
mod jump;
mod least_load;
mod levels;
mod maglev;
mod modulo;
mod peak_ewma;
mod points;
mod preset;
mod random;
mod rendezvous;
mod reported;
mod response_time;
mod ring;
mod round_robin;
mod says;
mod slow_start;
mod stride;
mod subset;

pub use any::{AnyPicker, AnyPolicy};
pub use bandwidth::Bandwidth;
pub use bounded::{BoundedLoad, Loads};
pub use connections::Connections;
pub use fixed::{ModuloRules, RandomRules, RoundRobinRules, Static};
pub use hot_cold::{HotCold, SeenLoads};
pub use jump::jump;
pub use least_load::{Least, LeastLoad, LeastLoadRules, Score};
pub use levels::{Level, Levels, Outlook, Part, Place, Priorities, Tier};
pub use maglev::{Maglev, MaglevWalk};
pub use modulo::{Modulo, ModuloWalk};
pub use peak_ewma::PeakEwma;
pub use preset::Ring;
pub use random::{Random, RandomWalk};
pub use rendezvous::{Rendezvous, RendezvousWalk};
pub use reported::{Reported, ReportedRules};
pub use response_time::ResponseTime;
pub use ring::{HashRing, RingWalk};
#[cfg(feature = "dns")]
pub(crate) use round_robin::greatest_common_divisor;
pub use round_robin::{RoundRobin, RoundRobinWalk};
pub use slow_start::{Ramp, SlowStart};
pub use subset::Subset;

pub(crate) use points::MOST_POINTS;
