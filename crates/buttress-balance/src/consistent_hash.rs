use crate::policy::{HashRing, MOST_POINTS, Maglev, Rendezvous, Ring};
use crate::{Hashing, Node, PolicyError};

/// Consistent hashing: a key goes to the same endpoint as long as that is there, and when endpoints come or go, few
/// keys move.
///
/// ```
/// use buttress_balance::{ConsistentHash, Node, Order, Ring};
///
/// # fn main() -> Result<(), buttress_balance::PolicyError> {
/// let nodes = [Node::new("10.0.0.1:443"), Node::new("10.0.0.2:443").weight(2)];
///
/// let ring = ConsistentHash::ring().points(160).build(&nodes)?;
/// let maglev = ConsistentHash::maglev().build(&nodes)?;
/// let rendezvous = ConsistentHash::rendezvous().seed(7).build(&nodes)?;
///
/// // The same owners as nginx' `hash $key consistent`.
/// let nginx = ConsistentHash::ring().preset(Ring::NginxCrc32).build(&nodes)?;
/// let owner = nginx.pick(nginx.hashing().of(b"/images/7.png"), |_| true);
/// # assert!(owner.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for three constructors")]
pub struct ConsistentHash;

impl ConsistentHash {
    /// A [`HashRing`]: no key moves without need, and passing over an endpoint is as good as removing it. The one to
    /// take when in doubt.
    pub const fn ring() -> RingRules {
        RingRules { ring: Ring::Native, points: None, sizes: None, hashing: Hashing::xxh3(0) }
    }

    /// A [`Maglev`] table: even shares, and the fastest pick.
    pub const fn maglev() -> MaglevRules {
        MaglevRules { slots: 65_537, hashing: Hashing::xxh3(0) }
    }

    /// [`Rendezvous`] hashing: the best order of all endpoints, for few of them.
    pub const fn rendezvous() -> RendezvousRules {
        RendezvousRules { hashing: Hashing::xxh3(0) }
    }
}

/// What a [`HashRing`] is built by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "rules do nothing until a ring is built by them"]
pub struct RingRules {
    ring: Ring,
    points: Option<u32>,
    sizes: Option<(u32, u32)>,
    hashing: Hashing,
}

impl RingRules {
    /// Puts `points` points on the ring for each unit of weight: 160 by default, as nginx does.
    ///
    /// With 160, shares differ by 8 % of the mean (standard deviation), with 1000 by 3 %. More points take more memory
    /// and time to build; a pick takes longer only as its cache misses do.
    pub const fn points(mut self, points: u32) -> Self {
        self.points = Some(points);
        self
    }

    /// Puts the points where another program has them. A preset other than `Native` fixes the points and the hash.
    pub const fn preset(mut self, ring: Ring) -> Self {
        self.ring = ring;
        self
    }

    /// How many points a ring of the preset [`EnvoyXxh64`](Ring::EnvoyXxh64) has in all: from 1024 to 8 388 608 by
    /// default, as with Envoy's `minimum_ring_size` and `maximum_ring_size`. gRPC clients stop at 4096.
    pub const fn sizes(mut self, least: u32, largest: u32) -> Self {
        self.sizes = Some((least, largest));
        self
    }

    /// Hashes with XXH3 and this seed; 0 by default. All processes that are to agree need the same.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.hashing = Hashing::xxh3(seed);
        self
    }

    /// Hashes in another way: [`Hashing::sip`] where clients choose their keys.
    pub const fn hash_by(mut self, hashing: Hashing) -> Self {
        self.hashing = hashing;
        self
    }

    /// Builds a ring of `nodes`. Their order does not matter: it says what the positions in walks mean, and nothing
    /// else.
    ///
    /// # Errors
    ///
    /// When there are no endpoints, two have one name, the points of all are more than 8 388 608, or a setting is out of
    /// range or not one of the preset's.
    pub fn build(self, nodes: &[Node]) -> Result<HashRing, PolicyError> {
        self.check()?;
        HashRing::new(self, nodes)
    }

    fn check(&self) -> Result<(), PolicyError> {
        let not_of_preset = |field| Err(PolicyError::NotOfPreset { field, preset: self.ring });
        if self.ring != Ring::Native && self.points.is_some() {
            return not_of_preset("points");
        }
        if self.ring != Ring::Native && self.hashing != Hashing::default() {
            return not_of_preset("hash_by");
        }
        if self.ring != Ring::EnvoyXxh64 && self.sizes.is_some() {
            return not_of_preset("sizes");
        }
        if self.points == Some(0) {
            return Err(PolicyError::NoPoints);
        }
        let (least, largest) = (self.least(), self.largest());
        if least < 1 || least > largest || u64::from(largest) > MOST_POINTS {
            return Err(PolicyError::Sizes { least, largest, most: MOST_POINTS as u32 });
        }
        Ok(())
    }

    pub(crate) const fn ring(&self) -> Ring {
        self.ring
    }

    pub(crate) fn points_each(&self) -> u32 {
        self.points.unwrap_or(160)
    }

    pub(crate) fn least(&self) -> u32 {
        self.sizes.map_or(1024, |(least, _)| least)
    }

    pub(crate) fn largest(&self) -> u32 {
        self.sizes.map_or(MOST_POINTS as u32, |(_, largest)| largest)
    }

    pub(crate) const fn hashing(&self) -> Hashing {
        self.ring.hashing(self.hashing)
    }
}

/// What a [`Maglev`] table is built by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "rules do nothing until a table is built by them"]
pub struct MaglevRules {
    slots: u32,
    hashing: Hashing,
}

impl MaglevRules {
    /// Makes the table of `slots` slots, which must be a prime number up to 16 777 213: 65 537 by default, which does
    /// for 650 endpoints, and 655 373 for 6 500.
    pub const fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Hashes with XXH3 and this seed; 0 by default. All processes that are to agree need the same.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.hashing = Hashing::xxh3(seed);
        self
    }

    /// Hashes in another way: [`Hashing::sip`] where clients choose their keys.
    pub const fn hash_by(mut self, hashing: Hashing) -> Self {
        self.hashing = hashing;
        self
    }

    /// Builds a table of `nodes`. Their order does not matter: it says what the positions in walks mean, and nothing
    /// else.
    ///
    /// # Errors
    ///
    /// When the number of slots is not a prime or too high, there are no endpoints, two have one name, or they are more
    /// than 65 536 or than the slots.
    pub fn build(self, nodes: &[Node]) -> Result<Maglev, PolicyError> {
        Maglev::new(self, nodes)
    }

    pub(crate) const fn size(&self) -> u32 {
        self.slots
    }

    pub(crate) const fn hashing(&self) -> Hashing {
        self.hashing
    }
}

/// What [`Rendezvous`] hashing is done by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "rules do nothing until a policy is built by them"]
pub struct RendezvousRules {
    hashing: Hashing,
}

impl RendezvousRules {
    /// Hashes with XXH3 and this seed; 0 by default. All processes that are to agree need the same.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.hashing = Hashing::xxh3(seed);
        self
    }

    /// Hashes in another way: [`Hashing::sip`] where clients choose their keys.
    pub const fn hash_by(mut self, hashing: Hashing) -> Self {
        self.hashing = hashing;
        self
    }

    /// Prepares `nodes`. Their order does not matter: it says what the positions in walks mean, and nothing else.
    ///
    /// # Errors
    ///
    /// When there are no endpoints, or two have one name.
    pub fn build(self, nodes: &[Node]) -> Result<Rendezvous, PolicyError> {
        Rendezvous::new(self, nodes)
    }

    pub(crate) const fn hashing(&self) -> Hashing {
        self.hashing
    }
}
