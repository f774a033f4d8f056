//! The points of a ring in order, found by their upper bits.

use std::borrow::Cow;

use super::cycle::{Around, distances};

/// As many as Envoy allows. They take 12 bytes each and 4 to 8 for the index: 150 MiB at the most.
pub(crate) const MOST_POINTS: u64 = 8 << 20;

/// How many words of a bucket a pick looks at whatever they are. Some 1 in 200 buckets have more. Behind the last word there
/// are as many that are none, for the last bucket to look at.
const SCANNED: usize = 4;

/// From so many points on, their tables are larger than the nearest caches.
const PARTED: usize = 1 << 14;

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
        let (parts, ends) = by_parts(points, bits);
        // Buckets of one part.
        let buckets = (1_usize << bits) / ends.len();
        let mut index = Vec::with_capacity((1 << bits) + 1);
        let mut words = vec![0_u64; points.len() + SCANNED];
        let mut begins = vec![0_u32; buckets + 2];
        let mut from = 0;
        for end in ends {
            // Sorting by counting: sizes of buckets, then their beginnings, each of them one entry too far. As points go to
            // their places, beginnings become ends, which are the beginnings of the next.
            let part = &parts[from as usize..end as usize];
            let local = |point: u64| bucket(point, bits) & (buckets - 1);
            begins.fill(0);
            for &(point, _) in part {
                begins[local(point) + 2] += 1;
            }
            for begin in &mut begins {
                from += *begin;
                *begin = from;
            }
            for &(point, owner) in part {
                let place = &mut begins[local(point) + 1];
                words[*place as usize] = word(point, owner, bits);
                *place += 1;
            }
            for range in begins[..=buckets].windows(2) {
                sort(&mut words[range[0] as usize..range[1] as usize], bits);
            }
            index.extend_from_slice(&begins[..buckets]);
        }
        index.push(from);
        Self::of(bits, index, words, endpoints)
    }

    fn of(bits: u32, index: Vec<u32>, words: Vec<u64>, endpoints: usize) -> Self {
        let mask = owner_mask(bits);
        let owners = words[..words.len() - SCANNED].iter().map(|word| (word & mask) as u32);
        let back = distances(owners, endpoints);
        Self { bits, index: index.into(), words: words.into(), back }
    }

    pub(crate) const fn len(&self) -> usize {
        self.back.len()
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
        let (begin, end) = (self.index[bucket] as usize, self.index[bucket + 1] as usize);
        // How many words a bucket has and which of them is the first is chance, which no branch predictor foresees. So
        // all that a bucket usually has are compared, and nothing is decided by the way.
        let mut place = begin;
        for (at, &word) in (begin..).zip(&self.words[begin..begin + SCANNED]) {
            place += usize::from((at < end) & (word < wanted));
        }
        if end - begin > SCANNED {
            place = begin + self.words[begin..end].partition_point(|&word| word < wanted);
        }
        Around::from(if place == self.len() { 0 } else { place as u32 })
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

        let mut words = Vec::with_capacity(self.words.len() + added.len());
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
        Self::of(bits, index, words, endpoints)
    }

    /// The points without those of the endpoint `gone`; owners above it move down by one. `endpoints` no longer
    /// counts it.
    pub(crate) fn without(&self, gone: u32, endpoints: usize) -> Self {
        let mask = owner_mask(self.bits);
        let gone = u64::from(gone);
        let words = &self.words[..self.len()];
        let places: Vec<u32> =
            (0..).zip(words).filter(|&(_, word)| word & mask == gone).map(|(place, _)| place).collect();
        let bits = bits_for(self.len() - places.len(), endpoints);
        // 1 for owners above the one that goes, found by the sign: that is worked out for several words at once.
        let above = |owner: u64| gone.wrapping_sub(owner) >> (u64::BITS - 1);
        if bits != self.bits {
            let rest = self.points().filter(|&(_, owner)| u64::from(owner) != gone);
            let points: Vec<Point> =
                rest.map(|(point, owner)| (point, owner - above(owner.into()) as u32)).collect();
            return Self::new(&points, endpoints);
        }

        let mut words = Vec::with_capacity(self.words.len() - places.len());
        let mut index = Vec::with_capacity(self.index.len());
        let mut from = 0;
        for (less, place) in (0..).zip(&places) {
            words.extend(self.words[from..*place as usize].iter().map(|word| word - above(word & mask)));
            from = *place as usize + 1;
            // All buckets that begin up to this place do so behind those that went before it.
            let upto = self.index.partition_point(|begin| begin <= place);
            extend_by(&mut index, &self.index, upto, |begin| begin - less);
        }
        words.extend(self.words[from..self.len()].iter().map(|word| word - above(word & mask)));
        words.extend([0; SCANNED]);
        extend_by(&mut index, &self.index, self.index.len(), |begin| begin - places.len() as u32);
        Self::of(bits, index, words, endpoints)
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

/// The points by their upper bits, in the same order within each part, and where each part ends. What comes after then
/// works on tables that are in the nearest caches. Few points are one part.
fn by_parts(points: &[Point], bits: u32) -> (Cow<'_, [Point]>, Vec<u32>) {
    const PARTS: u32 = 8;
    if points.len() < PARTED || bits < PARTS {
        return (Cow::Borrowed(points), vec![points.len() as u32]);
    }
    let part = |point: u64| bucket(point, PARTS);
    let mut places = vec![0_u32; (1 << PARTS) + 1];
    for &(point, _) in points {
        places[part(point) + 1] += 1;
    }
    for at in 1..places.len() {
        places[at] += places[at - 1];
    }
    let mut parts = vec![(0, 0); points.len()];
    for &(point, owner) in points {
        let place = &mut places[part(point)];
        parts[*place as usize] = (point, owner);
        *place += 1;
    }
    places.pop();
    (Cow::Owned(parts), places)
}

/// Sorts the words of one bucket. Ties keep their order.
#[inline]
fn sort(words: &mut [u64], bits: u32) {
    /// Nearly all have a few words, which a call of the library's sort would take longer to reach than to sort.
    const FEW: usize = 16;
    if words.len() > FEW {
        words.sort_by_key(|word| word >> bits);
        return;
    }
    for sorted in 1..words.len() {
        let word = words[sorted];
        let mut place = sorted;
        while place > 0 && words[place - 1] >> bits > word >> bits {
            words[place] = words[place - 1];
            place -= 1;
        }
        words[place] = word;
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const OWNERS: u32 = 7;

    /// Points by the same rule, in the plainest form: sorted by place, ties in order of arrival.
    #[derive(Debug)]
    struct Plain(Vec<Point>);

    impl Plain {
        fn new(points: &[Point]) -> Self {
            let mut sorted = points.to_vec();
            sorted.sort_by_key(|&(point, _)| point);
            Self(sorted)
        }

        fn walk(&self, hash: u64) -> Vec<usize> {
            let (before, after): (Vec<Point>, Vec<Point>) =
                self.0.iter().partition(|&&(point, _)| point < hash);
            let mut order = Vec::new();
            for (_, owner) in after.into_iter().chain(before) {
                if !order.contains(&(owner as usize)) {
                    order.push(owner as usize);
                }
            }
            order
        }
    }

    fn walk(points: &Points, hash: u64) -> Vec<usize> {
        let mut walk = points.walk(hash);
        std::iter::from_fn(|| points.step(&mut walk)).collect()
    }

    /// Points anywhere, close together, and equal.
    fn places() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            (0_u64..4).prop_map(|place| place << 62),
            0_u64..8,
            (0_u64..8).prop_map(|place| u64::MAX - place),
        ]
    }

    fn points() -> impl Strategy<Value = Vec<Point>> {
        vec((places(), 0..OWNERS), 0..120)
    }

    proptest! {
        #[test]
        fn walks_are_those_of_plainly_sorted_points(points in points(), hashes in vec(places(), 1..20)) {
            let (table, plain) = (Points::new(&points, OWNERS as usize), Plain::new(&points));

            prop_assert_eq!(table.len(), points.len());
            prop_assert!(table.points().eq(plain.0.iter().copied()));
            let at_points = points.iter().flat_map(|&(point, _)| [point, point.wrapping_add(1)]);
            for hash in hashes.into_iter().chain(at_points) {
                prop_assert_eq!(walk(&table, hash), plain.walk(hash));
            }
        }

        #[test]
        fn adding_and_removing_an_owner_is_building_anew(points in points(), added in vec(places(), 0..60)) {
            // The new owner comes between the third and the fourth, where points are equal.
            let rank = |owner: u32| if owner == OWNERS { 3 } else { owner + u32::from(owner > 2) };
            let new = |mut points: Vec<Point>, owners: usize| {
                points.sort_by_key(|&(_, owner)| rank(owner));
                Points::new(&points, owners)
            };
            let mut added: Vec<Point> = added.into_iter().map(|point| (point, OWNERS)).collect();
            added.sort_unstable();

            let old = new(points.clone(), OWNERS as usize);
            let all = new([points, added.clone()].concat(), OWNERS as usize + 1);
            prop_assert_eq!(&old.with(&added, OWNERS as usize + 1, |owner| rank(owner) < 3), &all);

            for gone in 0..=OWNERS {
                let rest: Vec<Point> = all
                    .points()
                    .filter(|&(_, owner)| owner != gone)
                    .map(|(point, owner)| (point, if owner > gone { owner - 1 } else { owner }))
                    .collect();
                prop_assert_eq!(all.without(gone, OWNERS as usize), Points::new(&rest, OWNERS as usize));
            }
        }
    }

    #[test]
    fn points_that_are_sorted_by_parts_first_are_the_same() {
        let mix = |n: u64| (n ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let points: Vec<Point> = (0..40_000).map(|n| (mix(mix(n % 39_000)), (n % 7) as u32)).collect();
        assert!(points.len() > PARTED);
        assert!(Points::new(&points, 7).points().eq(Plain::new(&points).0));
    }
}
