//! A cycle of places, each held by one endpoint, and walks around it that yield each endpoint once.
//!
//! A walk has no memory of what it yielded: each place knows how far back the one before it of the same endpoint is. If
//! that lies within the walk, the endpoint was yielded there.
//!
//! ```text
//! place     0 1 2 3 4 5 6      a walk from 3 comes to 3 (c), 4 (a), 5 is a again and 1 back: passed over,
//! endpoint  a b b c a a c      6 is c again, 0 is a again, 1 is b and 6 back, where the walk has come 5: yielded
//! back      2 6 1 4 4 1 3
//! ```

/// How far back around the cycle the place before it of the same endpoint is, for each place: its length for an
/// endpoint of one place.
pub(crate) fn distances(owners: impl ExactSizeIterator<Item = u32>, endpoints: usize) -> Box<[u32]> {
    const NONE: u32 = u32::MAX;
    let length = owners.len() as u32;
    let mut last = vec![NONE; endpoints];
    let mut firsts = Vec::with_capacity(endpoints);
    let mut distances = vec![0; owners.len()].into_boxed_slice();
    for ((place, distance), owner) in (0_u32..).zip(&mut distances).zip(owners) {
        let last = &mut last[owner as usize];
        if *last == NONE {
            firsts.push((place, owner));
        }
        *distance = place.wrapping_sub(*last);
        *last = place;
    }
    for (first, owner) in firsts {
        distances[first as usize] = first + length - last[owner as usize];
    }
    distances
}

/// Endpoints laid out around a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cycle<T> {
    owners: Box<[T]>,
    back: Box<[u32]>,
}

impl<T: Copy + Into<u32>> Cycle<T> {
    pub(crate) fn new(owners: Vec<T>, endpoints: usize) -> Self {
        let back = distances(owners.iter().map(|&owner| owner.into()), endpoints);
        Self { owners: owners.into(), back }
    }

    pub(crate) const fn len(&self) -> usize {
        self.owners.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        size_of_val(&*self.owners) + size_of_val(&*self.back)
    }

    #[inline]
    pub(crate) fn owner(&self, place: usize) -> usize {
        let owner: u32 = self.owners[place].into();
        owner as usize
    }

    #[inline]
    pub(crate) fn step(&self, walk: &mut Around) -> Option<usize> {
        Some(self.owner(walk.next(&self.back)?))
    }
}

/// A walk around a cycle: where it began, and how many places it has looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    start: u32,
    gone: u32,
}

impl Around {
    #[inline]
    pub(crate) const fn from(start: u32) -> Self {
        Self { start, gone: 0 }
    }

    /// The next place whose endpoint was not yielded before.
    #[inline]
    pub(crate) fn next(&mut self, back: &[u32]) -> Option<usize> {
        let length = back.len() as u32;
        while self.gone < length {
            let gone = self.gone;
            self.gone += 1;
            let place = self.start + gone;
            let place = if place < length { place } else { place - length };
            // A walk of another, longer cycle could be further out still.
            let place = place.min(length - 1) as usize;
            if gone == 0 || back[place] > gone {
                return Some(place);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cycle_that_the_documentation_draws_is_walked_as_it_says() {
        let cycle = Cycle::new("abbcaac".bytes().map(|owner| u32::from(owner - b'a')).collect(), 3);
        assert_eq!(*cycle.back, [2, 6, 1, 4, 4, 1, 3]);

        let mut walk = Around::from(3);
        let places: Vec<usize> = std::iter::from_fn(|| walk.next(&cycle.back)).collect();
        assert_eq!(places, [3, 4, 1]);
    }

    #[test]
    fn a_walk_that_a_longer_cycle_began_stays_within_this_one() {
        let cycle = Cycle::new(vec![0_u32, 1], 2);
        let mut walk = Around::from(1000);
        while let Some(owner) = cycle.step(&mut walk) {
            assert!(owner < 2);
        }
    }
}
