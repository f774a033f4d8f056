//! The points of a ring in order, found by their upper bits.

use super::cycle::{Around, distances};

/// As many as Envoy allows. They take 12 bytes each and 4 to 8 for the index: 150 MiB at the most.
pub(crate) const MOST_POINTS: u64 = 8 << 20;

/// A point and the position of the endpoint that owns it.
pub(crate) type Point = (u64, u32);

/// Sorted points with an index of their upper bits.
///
/// The index has a bucket for each value of the upper `bits`, and at least as many buckets as there are points or
/// endpoints. So a point is told by its bucket and its lower bits, and the bits that this saves have room for its owner:
/// a word is `lower bits of the point · owner`. With the distance to the owner's point before, which makes walks
/// distinct, a point takes 12 bytes.
///
/// A pick reads one entry of the index and, points being spread evenly, one word or two beside each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Points {
    bits: u32,
    /// Where each bucket begins, and behind the last one where it ends.
    index: Box<[u32]>,
    words: Box<[u64]>,
    back: Box<[u32]>,
}

impl Points {
    /// Of `points` in any order. Of equal points the one that comes first stays first.
    pub(crate) fn new(points: &[Point], endpoints: usize) -> Self {
        let bits = bits_for(points.len(), endpoints);
        let buckets = 1_usize << bits;

        // Sorting by counting: sizes of buckets, then their beginnings, each of them one entry too far. As points go to
        // their places, beginnings become ends, which are the beginnings of the next.
        let mut index = vec![0_u32; buckets + 2];
        for &(point, _) in points {
            index[bucket(point, bits) + 2] += 1;
        }
        let mut sum = 0;
        for begin in &mut index {
            sum += *begin;
            *begin = sum;
        }
        let mut words = vec![0_u64; points.len()].into_boxed_slice();
        for &(point, owner) in points {
            let place = &mut index[bucket(point, bits) + 1];
            words[*place as usize] = word(point, owner, bits);
            *place += 1;
        }
        index.truncate(buckets + 1);

        for range in index.windows(2).filter(|range| range[1] - range[0] > 1) {
            // Stable: ties keep their order. Most have two or three words.
            words[range[0] as usize..range[1] as usize].sort_by_key(|word| word >> bits);
        }
        Self::of(bits, index, words, endpoints)
    }

    fn of(bits: u32, index: Vec<u32>, words: Box<[u64]>, endpoints: usize) -> Self {
        let mask = owner_mask(bits);
        let back = distances(words.iter().map(|word| (word & mask) as u32), endpoints);
        Self { bits, index: index.into(), words, back }
    }

    pub(crate) const fn len(&self) -> usize {
        self.words.len()
    }

    /// The bytes that this takes.
    pub(crate) const fn bytes(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.words) + size_of_val(&*self.back)
    }

    /// The place of the first point that is not below `hash`, around the ring.
    #[inline]
    pub(crate) fn walk(&self, hash: u64) -> Around {
        let bucket = bucket(hash, self.bits);
        let wanted = hash << self.bits;
        let mut place = self.index[bucket] as usize;
        let end = self.index[bucket + 1] as usize;
        while place < end && self.words[place] < wanted {
            place += 1;
        }
        Around::from(if place == self.words.len() { 0 } else { place as u32 })
    }

    #[inline]
    pub(crate) fn step(&self, walk: &mut Around) -> Option<usize> {
        let place = walk.next(&self.back)?;
        Some((self.words[place] & owner_mask(self.bits)) as usize)
    }

    /// The points with those of one more endpoint, which are `added` in order. `endpoints` counts it. `before` says
    /// whether an owner of an equal point comes before the new one.
    pub(crate) fn with(&self, added: &[Point], endpoints: usize, before: impl Fn(u32) -> bool) -> Self {
        let bits = bits_for(self.len() + added.len(), endpoints);
        let places: Vec<usize> = added.iter().map(|&(point, _)| self.place_for(point, &before)).collect();
        if bits != self.bits {
            let old: Vec<Point> = self.points().collect();
            let mut points = Vec::with_capacity(old.len() + added.len());
            let mut from = 0;
            for (&place, &point) in places.iter().zip(added) {
                points.extend_from_slice(&old[from..place]);
                points.push(point);
                from = place;
            }
            points.extend_from_slice(&old[from..]);
            return Self::new(&points, endpoints);
        }

        let mut words = Vec::with_capacity(self.len() + added.len());
        let mut index = Vec::with_capacity(self.index.len());
        let mut from = 0;
        for (more, (&place, &(point, owner))) in (0_u32..).zip(places.iter().zip(added)) {
            words.extend_from_slice(&self.words[from..place]);
            words.push(word(point, owner, bits));
            from = place;
            // All buckets up to that of this point begin behind those that were added before it.
            let upto = bucket(point, bits) + 1;
            extend_by(&mut index, &self.index, upto, |begin| begin + more);
        }
        words.extend_from_slice(&self.words[from..]);
        extend_by(&mut index, &self.index, self.index.len(), |begin| begin + added.len() as u32);
        Self::of(bits, index, words.into(), endpoints)
    }

    /// The points without those of the endpoint `gone`; owners above it move down by one. `endpoints` no longer
    /// counts it.
    pub(crate) fn without(&self, gone: u32, endpoints: usize) -> Self {
        let mask = owner_mask(self.bits);
        let gone = u64::from(gone);
        let places: Vec<u32> =
            (0..).zip(&self.words).filter(|&(_, word)| word & mask == gone).map(|(place, _)| place).collect();
        let bits = bits_for(self.len() - places.len(), endpoints);
        if bits != self.bits {
            let points: Vec<Point> = self
                .points()
                .filter(|&(_, owner)| u64::from(owner) != gone)
                .map(|(point, owner)| (point, owner - u32::from(u64::from(owner) > gone)))
                .collect();
            return Self::new(&points, endpoints);
        }

        let mut words = Vec::with_capacity(self.len() - places.len());
        let mut from = 0;
        for place in places.iter().map(|&place| place as usize).chain([self.len()]) {
            words.extend(self.words[from..place].iter().map(|word| word - u64::from(word & mask > gone)));
            from = place + 1;
        }
        let mut less = 0;
        let index = self.index.iter().map(|&begin| {
            while places.get(less).is_some_and(|&place| place < begin) {
                less += 1;
            }
            begin - less as u32
        });
        Self::of(bits, index.collect(), words.into(), endpoints)
    }

    /// Where a new point goes.
    fn place_for(&self, point: u64, before: impl Fn(u32) -> bool) -> usize {
        let bucket = bucket(point, self.bits);
        let range = self.index[bucket] as usize..self.index[bucket + 1] as usize;
        let (lower, mask) = (point << self.bits >> self.bits, owner_mask(self.bits));
        let ahead = self.words[range.clone()].iter().take_while(|&&word| {
            let other = word >> self.bits;
            other < lower || other == lower && before((word & mask) as u32)
        });
        range.start + ahead.count()
    }

    /// All points in order.
    fn points(&self) -> impl Iterator<Item = Point> {
        self.index.windows(2).enumerate().flat_map(move |(bucket, range)| {
            let upper = (bucket as u64) << (u64::BITS - self.bits);
            self.words[range[0] as usize..range[1] as usize]
                .iter()
                .map(move |word| (upper | word >> self.bits, (word & owner_mask(self.bits)) as u32))
        })
    }
}

/// Continues `to` up to the entry `upto` with those of `from`, changed.
fn extend_by(to: &mut Vec<u32>, from: &[u32], upto: usize, change: impl Fn(u32) -> u32) {
    if let Some(entries) = from.get(to.len()..upto) {
        to.extend(entries.iter().map(|&entry| change(entry)));
    }
}

/// So many that each point has a bucket of its own on average, and each owner a number that fits.
fn bits_for(points: usize, endpoints: usize) -> u32 {
    points.max(endpoints).max(2).next_power_of_two().trailing_zeros()
}

#[inline]
const fn bucket(point: u64, bits: u32) -> usize {
    (point >> (u64::BITS - bits)) as usize
}

#[inline]
const fn word(point: u64, owner: u32, bits: u32) -> u64 {
    point << bits | owner as u64
}

#[inline]
const fn owner_mask(bits: u32) -> u64 {
    (1 << bits) - 1
}
