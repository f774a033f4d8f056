use crate::hash::{nth, scale};

/// How many endpoints are remembered to have been yielded before all the others are gone through.
const REMEMBERED: usize = 8;

/// How often a walk draws in vain before it goes through all the others.
const DRAWS: u8 = 32;

/// Draws endpoints by chance, each once: by a rule that knows weights until there are eight, so that the share of one that cannot
/// serve falls to all others alike; then the rest, in an order by chance that no longer knows weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    random: u64,
    draws: u8,
    yielded: u8,
    seen: [u32; REMEMBERED],
    rest: Option<Rest>,
}

/// A walk through all, in steps of a width that has no divisor in common with their number.
#[derive(Clone, Copy, Debug)]
struct Rest {
    place: u32,
    stride: u32,
    left: u32,
}

impl Draws {
    /// Begins with nothing yielded. `random` decides all that is drawn.
    #[inline]
    pub(crate) const fn new(random: u64) -> Self {
        Self { random, draws: 0, yielded: 0, seen: [0; REMEMBERED], rest: None }
    }

    #[inline]
    pub(crate) const fn random(&self) -> u64 {
        self.random
    }

    /// Whether nothing was yielded so far.
    #[inline]
    pub(crate) const fn is_new(&self) -> bool {
        self.yielded == 0
    }

    /// Remembers the first endpoint, which the caller has found.
    #[inline]
    pub(crate) const fn first(&mut self, endpoint: u32) {
        self.seen[0] = endpoint;
        self.yielded = 1;
    }

    /// The next one of `all`, drawn by `draw`.
    pub(crate) fn next(&mut self, all: &[u32], draw: impl Fn(u64) -> u32) -> Option<u32> {
        while usize::from(self.yielded) < REMEMBERED.min(all.len()) && self.draws < DRAWS {
            self.draws += 1;
            let next = draw(self.advance());
            if !self.has_seen(next) {
                self.seen[usize::from(self.yielded)] = next;
                self.yielded += 1;
                return Some(next);
            }
        }
        let count = all.len() as u32;
        if count == 0 {
            return None;
        }
        let mut rest = self.rest.unwrap_or_else(|| {
            let mut stride = 1 + scale(self.advance(), u64::from(count)) as u32;
            while has_common_divisor(stride, count) {
                stride += 1;
            }
            Rest { place: scale(self.advance(), u64::from(count)) as u32, stride, left: count }
        });
        let next = loop {
            if rest.left == 0 {
                break None;
            }
            rest.left -= 1;
            // The place may be one of another, longer list.
            let next = all[(rest.place % count) as usize];
            rest.place = ((u64::from(rest.place) + u64::from(rest.stride)) % u64::from(count)) as u32;
            if !self.has_seen(next) {
                break Some(next);
            }
        };
        self.rest = Some(rest);
        next
    }

    fn has_seen(&self, endpoint: u32) -> bool {
        self.seen[..usize::from(self.yielded)].contains(&endpoint)
    }

    /// The next number of the sequence that the first one begins.
    const fn advance(&mut self) -> u64 {
        let next = nth(self.random, 1);
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        next
    }
}

const fn has_common_divisor(mut a: u32, mut b: u32) -> bool {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a > 1
}
