use std::sync::Arc;

use crate::PolicyError;

/// One endpoint as a policy sees it: a name that nobody else has, and a weight.
///
/// The name decides which keys an endpoint gets, so it has to stay the same over restarts and be the same in all
/// processes that are to agree: an address, or a stable identity where addresses come and go. A ring of a
/// [preset](crate::Ring) reads it in the form that the preset says.
///
/// ```
/// use buttress_balance::Node;
///
/// let small = Node::new("10.0.0.1:443");
/// let large = Node::new("10.0.0.2:443").weight(4);
/// assert_eq!((small.share(), large.share()), (1, 4));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    name: Arc<str>,
    weight: u32,
}

impl Node {
    /// An endpoint of weight 1.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), weight: 1 }
    }

    /// Gives it `weight` parts of the traffic, where every other endpoint gets as many as its own weight says.
    ///
    /// With 0 it gets no new traffic: no walk comes to it, and it keeps its place in the list. Weights are relative,
    /// so small ones do: a ring has points for each unit, and a round robin turns.
    #[must_use]
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its weight.
    #[must_use]
    pub const fn share(&self) -> u32 {
        self.weight
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }
}

impl From<&str> for Node {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Node {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// The positions of `nodes` in the order of their names, which is the order that policies work in: so the order of
/// the list does not matter.
pub(crate) fn by_name(nodes: &[Node]) -> Result<Vec<u32>, PolicyError> {
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    if nodes.is_empty() {
        return Err(PolicyError::NoEndpoints);
    }
    if nodes.len() > MOST_NODES {
        return Err(PolicyError::TooManyEndpoints { endpoints: nodes.len(), most: MOST_NODES });
    }
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by_key(|&at| &nodes[at as usize].name);
    let twice = order.windows(2).find(|pair| nodes[pair[0] as usize].name == nodes[pair[1] as usize].name);
    match twice {
        Some(pair) => Err(PolicyError::DuplicateEndpoint { name: nodes[pair[0] as usize].shared_name() }),
        None => Ok(order),
    }
}

/// As [`by_name`], without those that get no new traffic.
pub(crate) fn weighted_by_name(nodes: &[Node]) -> Result<Vec<u32>, PolicyError> {
    let mut order = by_name(nodes)?;
    order.retain(|&at| nodes[at as usize].weight > 0);
    Ok(order)
}

/// Positions are kept in 32 bits; nobody has this many endpoints.
const MOST_NODES: usize = 1 << 24;
