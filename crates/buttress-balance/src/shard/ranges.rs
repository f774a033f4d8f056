use std::fmt::{self, Debug};
use std::ops::{Bound, RangeBounds};

use super::{RangeError, ShardLayout, ShardMap};

/// Which shard has which range of ordered keys.
///
/// Ranges have their start and not their end (`10..20`), may be open on either side (`..10`, `20..`, `..`), and never
/// overlap. A key between them has no shard. Keys are whatever is ordered: numbers, texts, bytes, dates. A look takes a binary
/// search.
///
/// ```
/// use buttress_balance::{Ranges, ShardMap};
///
/// # fn main() -> Result<(), buttress_balance::RangeError> {
/// let ranges = Ranges::new().with(..1000_u64, 0)?.with(1000..5000, 1)?;
/// assert_eq!(ranges.shard(&999), Some(0));
/// assert_eq!(ranges.shard(&1000), Some(1));
/// assert_eq!(ranges.shard(&5000), None);
///
/// let error = ranges.with(4000.., 2).unwrap_err();
/// assert_eq!(error.to_string(), "range 4000.. overlaps 1000..5000: each key has one shard");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Ranges<K> {
    /// In order of their starts.
    ranges: Vec<Held<K>>,
}

/// From `start` (`None`: from the first key) up to and without `end` (`None`: to the last).
#[derive(Clone, PartialEq, Eq)]
struct Held<K> {
    start: Option<K>,
    end: Option<K>,
    shard: usize,
}

impl<K: Ord + Clone + Debug> Ranges<K> {
    /// No ranges: no key has a shard.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Gives a range to a shard, in any order.
    ///
    /// # Errors
    ///
    /// When the range is empty, has its end (`0..=9`) or not its start, or overlaps one that is there.
    pub fn with(mut self, range: impl RangeBounds<K>, shard: usize) -> Result<Self, RangeError> {
        let range = Held::new(&range, shard)?;
        if let Some(other) = self.ranges.iter().find(|other| other.overlap(&range).is_some()) {
            return Err(RangeError::Overlap { range: format!("{range:?}"), other: format!("{other:?}") });
        }
        let at = self.ranges.partition_point(|other| other.start < range.start);
        self.ranges.insert(at, range);
        Ok(self)
    }

    /// The same with this range on another shard, split from those that it was part of: what to give to
    /// [`Mover::begin`](crate::Mover::begin).
    ///
    /// ```
    /// use buttress_balance::{Ranges, ShardMap};
    ///
    /// # fn main() -> Result<(), buttress_balance::RangeError> {
    /// let ranges = Ranges::new().with(..1000_u64, 0)?.with(1000.., 1)?;
    /// let next = ranges.moved(900..1100, 2)?;
    /// assert_eq!([899, 900, 1099, 1100].map(|key| next.shard(&key)), [Some(0), Some(2), Some(2), Some(1)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the range is empty or of another form than [`with`](Self::with) takes, or a key of it has no shard.
    pub fn moved(&self, range: impl RangeBounds<K>, shard: usize) -> Result<Self, RangeError> {
        let range = Held::new(&range, shard)?;
        let gap = || RangeError::Gap { range: format!("{range:?}") };
        let mut moved = Vec::with_capacity(self.ranges.len() + 2);
        // Up to where `range` is known to be covered.
        let mut covered = Some(&range.start);
        for held in &self.ranges {
            let Some((start, end)) = held.overlap(&range) else {
                moved.push(held.clone());
                continue;
            };
            if covered != Some(start) {
                return Err(gap());
            }
            // Behind the last key there is nothing to cover.
            covered = end.is_some().then_some(end);
            if held.start < *start {
                moved.push(Held { end: start.clone(), ..held.clone() });
            }
            if before_end(end.as_ref(), held.end.as_ref()) {
                moved.push(Held { start: end.clone(), ..held.clone() });
            }
        }
        if covered.is_some_and(|covered| range.end.is_none() || *covered != range.end) {
            return Err(gap());
        }
        moved.push(range);
        moved.sort_by(|one, other| one.start.cmp(&other.start));
        Ok(Self { ranges: moved })
    }

    /// How many ranges there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl<K: Ord> ShardMap<K> for Ranges<K> {
    fn shard(&self, key: &K) -> Option<usize> {
        let behind =
            self.ranges.partition_point(|range| range.start.as_ref().is_none_or(|start| start <= key));
        let range = self.ranges[..behind].last()?;
        range.end.as_ref().is_none_or(|end| key < end).then_some(range.shard)
    }
}

impl<K> ShardLayout for Ranges<K> {
    fn shards(&self) -> usize {
        self.ranges.iter().map(|range| range.shard.saturating_add(1)).max().unwrap_or(0)
    }
}

impl<K: Ord + Clone + Debug> Default for Ranges<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Debug> Debug for Ranges<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.ranges.iter().map(|range| (range, range.shard))).finish()
    }
}

impl<K: Ord + Clone + Debug> Held<K> {
    fn new(range: &impl RangeBounds<K>, shard: usize) -> Result<Self, RangeError> {
        let form =
            || RangeError::Form { range: format!("({:?}, {:?})", range.start_bound(), range.end_bound()) };
        let start = match range.start_bound() {
            Bound::Included(start) => Some(start.clone()),
            Bound::Unbounded => None,
            Bound::Excluded(_) => return Err(form()),
        };
        let end = match range.end_bound() {
            Bound::Excluded(end) => Some(end.clone()),
            Bound::Unbounded => None,
            Bound::Included(_) => return Err(form()),
        };
        let range = Self { start, end, shard };
        if let (Some(start), Some(end)) = (&range.start, &range.end)
            && start >= end
        {
            return Err(RangeError::Empty { range: format!("{range:?}") });
        }
        Ok(range)
    }

    /// What two ranges have in common.
    fn overlap<'a>(&'a self, other: &'a Self) -> Option<(&'a Option<K>, &'a Option<K>)> {
        let start = if self.start < other.start { &other.start } else { &self.start };
        let end = if before_end(self.end.as_ref(), other.end.as_ref()) { &self.end } else { &other.end };
        match (start, end) {
            (Some(from), Some(to)) if from >= to => None,
            _ => Some((start, end)),
        }
    }
}

/// Whether one end comes before the other; `None` is behind all keys.
fn before_end<K: Ord>(one: Option<&K>, other: Option<&K>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        (one, other) => one.is_some() && other.is_none(),
    }
}

impl<K: Debug> Debug for Held<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(start) = &self.start {
            start.fmt(f)?;
        }
        f.write_str("..")?;
        self.end.as_ref().map_or(Ok(()), |end| end.fmt(f))
    }
}
