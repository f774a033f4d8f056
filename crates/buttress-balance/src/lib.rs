#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "http"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the pages are of the whole crate, and some of it needs `http`"
    )
)]

mod backoff;
mod balancer;
mod consistent_hash;
pub mod discover;
mod error;
mod event;
mod hash;
mod load;
#[cfg(feature = "http")]
mod mirror;
mod node;
mod order;
mod pick;
mod policy;
mod replica;
mod shard;
mod split;
#[cfg(feature = "http")]
mod sticky;
mod sync;

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use balancer::MarkEndpoint;
pub use balancer::{BalanceFuture, BalanceLayer, Balancer, Flight, Handle, Members, Settings, View};
pub use consistent_hash::{ConsistentHash, MaglevRules, RendezvousRules, RingRules};
pub use error::PolicyError;
pub use event::BalanceEvent;
pub use hash::{Hashing, KeyHasher};
pub use load::Load;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use mirror::{
    Mirror, MirrorCounts, MirrorEnd, MirrorError, MirrorEvent, MirrorHandle, MirrorLayer, MirroredBody,
    NotMirrored, TeeBody,
};
pub use node::Node;
pub use order::{Candidates, Order};
pub use pick::{Among, ByHash, ByTurn, DefaultPolicy, Ended, NoKey, Picker, Policy};
pub use policy::{
    AnyPicker, AnyPolicy, Bandwidth, BoundedLoad, Connections, HashRing, HotCold, Least, LeastLoad,
    LeastLoadRules, Level, Levels, Loads, Maglev, MaglevWalk, Modulo, ModuloRules, ModuloWalk, Outlook, Part,
    PeakEwma, Place, Priorities, Ramp, Random, RandomRules, RandomWalk, Rendezvous, RendezvousWalk, Reported,
    ReportedRules, ResponseTime, Ring, RingWalk, RoundRobin, RoundRobinRules, RoundRobinWalk, Score,
    SeenLoads, SlowStart, Static, Subset, Tier, jump,
};
pub use replica::{
    CarriedTokens, Diverted, NoTokens, ReplicaError, ReplicaPolicy, ReplicaRules, ReplicaSplit,
    ReplicaSplitCounts, ReplicaSplitEvent, ReplicaSplitFuture, ReplicaSplitHandle, ReplicaView, Route,
    Tokens, WrittenTokens,
};
pub use shard::{
    Directory, DirectoryHandle, HashMod, Hashed, Jump, Locate, Located, Lookup, LookupCounts, Lookups,
    Mapped, Movable, MoveError, Mover, Moves, Moving, Places, RangeError, Ranges, Settled, ShardBy,
    ShardLayout, ShardMap, Shards, ShardsCounts, ShardsError, ShardsEvent, ShardsFuture, ShardsHandle, Still,
};
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use split::ByHeader;
pub use split::{Chosen, NoOverride, Override, Split, SplitCounts, SplitError, SplitEvent, SplitHandle};
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use sticky::{
    SameSite, Sticky, StickyCookie, StickyCounts, StickyError, StickyEvent, StickyFuture, StickyHandle,
    StickyKeys, StickyLayer,
};
