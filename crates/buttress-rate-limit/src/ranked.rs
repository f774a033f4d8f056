//! A list in order, out of which any may be taken: how many are before one, and which has so many before it, takes
//! O(log n) steps.
//!
//! Whoever is taken out leaves a gap, and a tree over the slots counts those that are no gaps (Fenwick 1994, "A new
//! data structure for cumulative frequency tables"). Gaps go when they are half of the list.

#[derive(Debug)]
pub(crate) struct Ranked<T> {
    slots: Vec<Option<T>>,
    /// At `i - 1`, how many are in the slots that `i` without its lowest bit is the first of, up to `i`.
    sums: Vec<usize>,
    len: usize,
}

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), sums: Vec::new(), len: 0 }
    }
}

const THERE: &str = "it is in the list";

impl<T> Ranked<T> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Whether half of the slots are gaps.
    pub(crate) const fn is_sparse(&self) -> bool {
        self.slots.len() >= 2 * self.len + 16
    }

    /// Adds one at the end, and says in which slot.
    pub(crate) fn push(&mut self, item: T) -> usize {
        let end = self.slots.len() + 1;
        let (mut sum, mut node) = (1, end - 1);
        while node > end - low(end) {
            sum += self.sums[node - 1];
            node -= low(node);
        }
        self.sums.push(sum);
        self.slots.push(Some(item));
        self.len += 1;
        end - 1
    }

    /// How many are before this slot.
    pub(crate) fn rank(&self, slot: usize) -> usize {
        let (mut sum, mut node) = (0, slot);
        while node > 0 {
            sum += self.sums[node - 1];
            node -= low(node);
        }
        sum
    }

    /// The slot of the one that has so many before it.
    pub(crate) fn slot(&self, rank: usize) -> usize {
        let (mut slot, mut left) = (0, rank);
        let mut step = self.slots.len().checked_ilog2().map_or(0, |bits| 1 << bits);
        while step > 0 {
            let next = slot + step;
            if next <= self.slots.len() && self.sums[next - 1] <= left {
                slot = next;
                left -= self.sums[next - 1];
            }
            step /= 2;
        }
        slot
    }

    pub(crate) fn nth(&self, rank: usize) -> &T {
        self.slots[self.slot(rank)].as_ref().expect(THERE)
    }

    pub(crate) fn nth_mut(&mut self, rank: usize) -> &mut T {
        let slot = self.slot(rank);
        self.at_mut(slot)
    }

    pub(crate) fn at_mut(&mut self, slot: usize) -> &mut T {
        self.slots[slot].as_mut().expect(THERE)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    pub(crate) fn swap(&mut self, one: usize, other: usize) {
        let (one, other) = (self.slot(one), self.slot(other));
        self.slots.swap(one, other);
    }

    pub(crate) fn remove(&mut self, slot: usize) -> T {
        let item = self.slots[slot].take().expect(THERE);
        let mut node = slot + 1;
        while node <= self.sums.len() {
            self.sums[node - 1] -= 1;
            node += low(node);
        }
        self.len -= 1;
        item
    }

    pub(crate) fn remove_nth(&mut self, rank: usize) -> T {
        let slot = self.slot(rank);
        self.remove(slot)
    }

    /// Closes the gaps. `moved` hears of each its new slot and its old one.
    pub(crate) fn compact(&mut self, mut moved: impl FnMut(usize, usize, &mut T)) {
        let old = std::mem::take(self);
        for (from, item) in old.slots.into_iter().enumerate() {
            if let Some(mut item) = item {
                moved(self.slots.len(), from, &mut item);
                self.push(item);
            }
        }
    }
}

const fn low(node: usize) -> usize {
    node & node.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_what_a_plain_list_does() {
        let (mut list, mut plain) = (Ranked::default(), Vec::new());
        let mut dice = 7_u64;
        let mut moves = 0;
        for n in 0..5_000_u64 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let roll = (dice >> 33) as usize;
            if plain.is_empty() || roll % 5 < 2 + usize::from(n < 2_000) {
                if list.is_sparse() {
                    list.compact(|to, from, _| moves += usize::from(to != from));
                }
                list.push(n);
                plain.push(n);
            } else {
                let rank = roll % plain.len();
                assert_eq!(list.rank(list.slot(rank)), rank);
                assert_eq!(list.remove_nth(rank), plain.remove(rank));
            }

            assert_eq!(list.len(), plain.len());
            if n % 50 == 0 {
                let seen: Vec<u64> = (0..plain.len()).map(|rank| *list.nth(rank)).collect();
                assert_eq!(seen, plain);
            }
        }
        assert!(moves > 0, "gaps were closed");
    }
}
