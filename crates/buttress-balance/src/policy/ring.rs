use std::fmt;

use super::cycle::Around;
use super::points::{MOST_POINTS, Point, Points};
use super::preset;
use crate::consistent_hash::RingRules;
use crate::node::weighted_by_name;
use crate::{Hashing, Node, Order, PolicyError, Ring};

/// A ring: endpoints have points on a circle of hashes, and a key belongs to the endpoint of the next point.
///
/// When an endpoint leaves, its keys alone move, to those whose points come next; when one joins, keys move to it alone
/// (Karger 1997). Passing over an endpoint that cannot serve gives each key the owner that it would have on a ring without
/// that endpoint, so health never changes the ring. Shares are as even as the points are many: with 160 for each unit
/// of weight their standard deviation is 8 % of the mean.
///
/// For even shares and a pick that takes the same time for any number of endpoints, at the price of some keys that move
/// without need, take [`Maglev`](crate::Maglev); for a few endpoints [`Rendezvous`](crate::Rendezvous).
///
/// A pick reads two cache lines. A point takes 12 bytes, and the index 4 to 8 more.
#[derive(Clone, PartialEq)]
pub struct HashRing {
    nodes: Box<[Node]>,
    points: Points,
    rules: RingRules,
}

impl HashRing {
    pub(crate) fn new(rules: RingRules, nodes: &[Node]) -> Result<Self, PolicyError> {
        let order = weighted_by_name(nodes)?;
        let ordered: Vec<&Node> = order.iter().map(|&at| &nodes[at as usize]).collect();
        let counts = rules.counts(&ordered);
        let total = counts.iter().try_fold(0_u64, |total, &count| total.checked_add(count));
        check_points(total)?;
        let mut points = Vec::with_capacity(counts.iter().sum::<u64>() as usize);
        for ((node, count), at) in ordered.into_iter().zip(counts).zip(order) {
            rules.points_of(node, count, |point| points.push((point, at)));
        }
        Ok(Self { nodes: nodes.into(), points: Points::new(&points, nodes.len()), rules })
    }

    /// How keys are hashed for this ring.
    #[must_use]
    pub const fn hashing(&self) -> Hashing {
        self.rules.hashing()
    }

    /// The endpoints, as they were given.
    #[must_use]
    pub const fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// How many points there are.
    #[must_use]
    pub const fn points(&self) -> usize {
        self.points.len()
    }

    /// How many bytes the points and their index take; endpoints' names are shared and not counted.
    #[must_use]
    pub const fn table_bytes(&self) -> usize {
        self.points.bytes()
    }

    /// The ring with one endpoint more, behind the others: equal to one built anew, and made in a fraction of the time by
    /// merging the new points in. (Where the points of all depend on all, as with Envoy's preset and libketama's, it
    /// is built anew.)
    ///
    /// # Errors
    ///
    /// When there is an endpoint of this name, or there would be too many points.
    pub fn with(&self, node: Node) -> Result<Self, PolicyError> {
        if self.nodes.iter().any(|other| other.name() == node.name()) {
            return Err(PolicyError::DuplicateEndpoint { name: node.shared_name() });
        }
        let nodes: Box<[Node]> = self.nodes.iter().cloned().chain([node]).collect();
        if !self.rules.ring().is_independent() {
            return Self::new(self.rules, &nodes);
        }
        let (at, node) = (self.nodes.len(), &nodes[self.nodes.len()]);
        let count = self.rules.counts(&[node])[0];
        check_points(count.checked_add(self.points.len() as u64))?;
        let mut added: Vec<Point> = Vec::with_capacity(count as usize);
        self.rules.points_of(node, count, |point| added.push((point, at as u32)));
        added.sort_unstable();
        let before = |owner: u32| nodes[owner as usize].name() < node.name();
        let points = self.points.with(&added, nodes.len(), before);
        Ok(Self { points, nodes, rules: self.rules })
    }

    /// The ring without the endpoint at `position`; those behind it move up by one, as in a `Vec`. As with
    /// [`with`](Self::with) it is equal to one built anew.
    ///
    /// # Errors
    ///
    /// When it was the only one.
    ///
    /// # Panics
    ///
    /// When there is no such position.
    pub fn without(&self, position: usize) -> Result<Self, PolicyError> {
        assert!(position < self.nodes.len(), "no endpoint {position} among {}", self.nodes.len());
        let nodes: Box<[Node]> = [&self.nodes[..position], &self.nodes[position + 1..]].concat().into();
        if nodes.is_empty() {
            return Err(PolicyError::NoEndpoints);
        }
        if !self.rules.ring().is_independent() {
            return Self::new(self.rules, &nodes);
        }
        let points = self.points.without(position as u32, nodes.len());
        Ok(Self { points, nodes, rules: self.rules })
    }
}

fn check_points(points: Option<u64>) -> Result<(), PolicyError> {
    match points {
        Some(points) if points <= MOST_POINTS => Ok(()),
        points => Err(PolicyError::TooManyPoints { points: points.unwrap_or(u64::MAX), most: MOST_POINTS }),
    }
}

impl RingRules {
    /// How many points each of `nodes` has, which are in order of their names and of weights above 0.
    fn counts(&self, nodes: &[&Node]) -> Vec<u64> {
        match self.ring() {
            Ring::EnvoyXxh64 => preset::envoy_counts(nodes, self.least(), self.largest()),
            Ring::LibketamaMd5 => preset::libketama_counts(nodes),
            Ring::Native | Ring::NginxCrc32 => {
                nodes.iter().map(|node| u64::from(node.share()) * u64::from(self.points_each())).collect()
            }
        }
    }

    fn points_of(&self, node: &Node, count: u64, each: impl FnMut(u64)) {
        let count = count as usize;
        match self.ring() {
            Ring::Native => preset::native(node.name(), self.hashing()).take(count).for_each(each),
            Ring::NginxCrc32 => preset::nginx(node.name()).take(count).for_each(each),
            Ring::EnvoyXxh64 => preset::envoy(node.name()).take(count).for_each(each),
            Ring::LibketamaMd5 => preset::libketama(node.name()).take(count).for_each(each),
        }
    }
}

/// How far a walk around a [`HashRing`] has come.
#[derive(Clone, Copy, Debug)]
pub struct RingWalk(Around);

impl Order for HashRing {
    type Walk = RingWalk;

    #[inline]
    fn endpoints(&self) -> usize {
        self.nodes.len()
    }

    #[inline]
    fn walk(&self, hash: u64) -> RingWalk {
        RingWalk(self.points.walk(hash))
    }

    #[inline]
    fn step(&self, walk: &mut RingWalk) -> Option<usize> {
        self.points.step(&mut walk.0)
    }
}

impl fmt::Debug for HashRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashRing")
            .field("rules", &self.rules)
            .field("endpoints", &self.nodes.len())
            .field("points", &self.points.len())
            .finish_non_exhaustive()
    }
}
