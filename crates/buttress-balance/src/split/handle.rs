use std::fmt;
use std::sync::Arc;

use buttress_core::KeyPart;

use super::state::State;
use super::{Chosen, SplitError};

/// Reads and steers a [`Split`](crate::Split), while its clones serve.
#[derive(Clone)]
pub struct SplitHandle(pub(super) Arc<State>);

/// What a split has done since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SplitCounts {
    /// Requests of each side, in the order of the sides.
    pub sides: Vec<u64>,
    /// Requests whose key chose the side.
    pub by_key: u64,
    /// Requests without a key whose side chance chose.
    pub by_chance: u64,
    /// Requests without a key that went to the first side of a weight.
    pub to_first: u64,
    /// Requests whose side the override said.
    pub overridden: u64,
    /// How often the override said a side that there is not. Those requests are in one of the counts above as well.
    pub no_such_side: u64,
}

impl SplitHandle {
    /// The weights now.
    #[must_use]
    pub fn weights(&self) -> Vec<u32> {
        self.0.weights().each.to_vec()
    }

    /// Gives all sides new weights at once; calls under way stay where they are.
    ///
    /// # Errors
    ///
    /// When there is not one for each side, when all are 0, or when they come to more than `u32::MAX`. The weights stay as
    /// they are then.
    pub fn set_weights(&self, weights: impl IntoIterator<Item = u32>) -> Result<(), SplitError> {
        let weights = weights.into_iter().collect();
        self.0.change(|_| Ok(weights))
    }

    /// Gives one side another weight: users go to it from all others when it grows, and to all others when it shrinks.
    ///
    /// # Errors
    ///
    /// When there is no such side, or as [`set_weights`](Self::set_weights).
    pub fn set_weight(&self, side: usize, weight: u32) -> Result<(), SplitError> {
        self.0.change(|present| {
            let mut weights = present.to_vec();
            let no_such_side = SplitError::NoSuchSide { side, sides: weights.len() };
            *weights.get_mut(side).ok_or(no_such_side)? = weight;
            Ok(weights)
        })
    }

    /// The side of a key, by the weights now. The key is what [`by`](crate::Split::by) gives: a text, an `IpAddr`, a tuple.
    #[must_use]
    pub fn side_of(&self, key: impl KeyPart) -> usize {
        let mut sink = self.0.setup.hashing.sink();
        key.write(&mut sink);
        self.0.side_of(sink.finish())
    }

    /// What the split has done.
    #[must_use]
    pub fn counts(&self) -> SplitCounts {
        SplitCounts {
            sides: (0..self.0.sides()).map(|side| self.0.count(side)).collect(),
            by_key: self.0.chosen(Chosen::Key),
            by_chance: self.0.chosen(Chosen::Chance),
            to_first: self.0.chosen(Chosen::First),
            overridden: self.0.chosen(Chosen::Override),
            no_such_side: self.0.no_such_side(),
        }
    }
}

impl fmt::Debug for SplitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitHandle")
            .field("name", &self.0.setup.name)
            .field("weights", &self.0.weights().each)
            .finish_non_exhaustive()
    }
}
