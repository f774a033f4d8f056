use crate::{
    ByHash, ByTurn, HashRing, Hashing, Maglev, MaglevRules, Modulo, Node, Policy, PolicyError, Random,
    Rendezvous, RendezvousRules, RingRules, RoundRobin,
};

/// Policies that look at weights alone, not at load.
///
/// | policy | an endpoint gets | take it when |
/// |---|---|---|
/// | [`round_robin`](Self::round_robin) | its turns, as many as its weight says | calls are alike and there are few balancers |
/// | [`random`](Self::random) | calls by chance, as its weight says | there are so many balancers that turns would march in step |
/// | [`modulo`](Self::modulo) | the keys whose hash, divided by the number of endpoints, leaves its number | never: it is what [`ConsistentHash`](crate::ConsistentHash) is compared with. When one of N endpoints joins, N/(N+1) of all keys move; on a ring 1/(N+1) do |
///
/// Where calls differ or endpoints do, [`LeastLoad`](crate::LeastLoad) is better.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for three constructors")]
pub struct Static;

impl Static {
    /// Turns: a weighted [`RoundRobin`], which all clones of a balancer share.
    pub const fn round_robin() -> RoundRobinRules {
        RoundRobinRules { start: 0 }
    }

    /// Chance: [`Random`], by weights.
    pub const fn random() -> RandomRules {
        RandomRules(())
    }

    /// The hash of the call's key, modulo the number of endpoints, as with a plain IP hash or URL hash: [`Modulo`].
    pub const fn modulo() -> ModuloRules {
        ModuloRules { hashing: Hashing::xxh3(0) }
    }
}

/// What a [`RoundRobin`] is built by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "rules do nothing until a balancer takes them"]
pub struct RoundRobinRules {
    start: u64,
}

impl RoundRobinRules {
    /// Begins with this turn: give each balancer of many another number, a random one, so that they do not all begin
    /// with the same endpoint. 0 by default.
    pub const fn start(mut self, turn: u64) -> Self {
        self.start = turn;
        self
    }
}

impl Policy for RoundRobinRules {
    type Picker = ByTurn<RoundRobin>;

    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        Ok(ByTurn::new(RoundRobin::new(nodes)?, self.start))
    }

    fn rebuild(&self, present: &Self::Picker, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        Ok(ByTurn::new(RoundRobin::new(nodes)?, present.turn()))
    }
}

/// What a [`Random`] policy is built by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "rules do nothing until a balancer takes them"]
pub struct RandomRules(());

impl Policy for RandomRules {
    type Picker = ByHash<Random>;

    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        Ok(ByHash::new(Random::new(nodes)?))
    }
}

/// What a [`Modulo`] policy is built by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "rules do nothing until a balancer takes them"]
pub struct ModuloRules {
    hashing: Hashing,
}

impl ModuloRules {
    /// Hashes in this way.
    pub const fn hash_by(mut self, hashing: Hashing) -> Self {
        self.hashing = hashing;
        self
    }
}

impl Policy for ModuloRules {
    type Picker = ByHash<Modulo>;

    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        Ok(ByHash::new(Modulo::new(nodes)?))
    }

    fn hashing(&self) -> Hashing {
        self.hashing
    }
}

impl Policy for RingRules {
    type Picker = ByHash<HashRing>;

    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        Ok(ByHash::new((*self).build(nodes)?))
    }

    /// Merges the points of those that have come, and takes out those of the ones that have gone, where these are few.
    fn rebuild(&self, present: &Self::Picker, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        match merged(present.order(), nodes)? {
            Some(ring) => Ok(ByHash::new(ring)),
            None => Policy::build(self, nodes),
        }
    }

    fn hashing(&self) -> Hashing {
        Self::hashing(self)
    }
}

/// A merge costs about an eighth of building a ring anew.
const FEW: usize = 4;

/// `ring` with the few changes that make it one of `nodes`: those that stay are in their order, and new ones behind them.
fn merged(ring: &HashRing, nodes: &[Node]) -> Result<Option<HashRing>, PolicyError> {
    let mut gone = Vec::new();
    let mut stay = 0;
    for (at, node) in ring.nodes().iter().enumerate() {
        if nodes.get(stay) == Some(node) {
            stay += 1;
        } else {
            gone.push(at);
        }
    }
    let came = &nodes[stay..];
    if gone.len() + came.len() > FEW || stay == 0 {
        return Ok(None);
    }
    let mut ring = ring.clone();
    for at in gone.into_iter().rev() {
        ring = ring.without(at)?;
    }
    for node in came {
        ring = ring.with(node.clone())?;
    }
    Ok(Some(ring))
}

impl Policy for MaglevRules {
    type Picker = ByHash<Maglev>;

    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        Ok(ByHash::new((*self).build(nodes)?))
    }

    fn hashing(&self) -> Hashing {
        Self::hashing(self)
    }
}

impl Policy for RendezvousRules {
    type Picker = ByHash<Rendezvous>;

    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        Ok(ByHash::new((*self).build(nodes)?))
    }

    fn hashing(&self) -> Hashing {
        Self::hashing(self)
    }
}
