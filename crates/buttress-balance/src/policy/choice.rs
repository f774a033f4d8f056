use crate::hash::{nth, scale};
use crate::{Among, Order, Random};

/// More choices than this are no better than all.
pub(crate) const MOST_CHOICES: usize = 8;

/// So many that took no call are remembered before the others are gone through in any order.
const REMEMBERED: usize = 8;

/// Of the first `choices` usable candidates of `hash` that are none of `passed`, the one of the least cost that takes the call, and of equals
/// the first; then the first of all others that takes it. Each is asked once.
#[inline]
pub(crate) fn few(
    order: &Random,
    choices: usize,
    hash: u64,
    among: &impl Among,
    passed: &[usize],
    mut cost: impl FnMut(usize) -> f64,
) -> Option<usize> {
    let mut usable =
        order.candidates(hash).filter(|endpoint| !passed.contains(endpoint) && among.is_usable(*endpoint));
    let mut drawn = [(0.0, 0); MOST_CHOICES];
    let mut count = 0;
    for endpoint in usable.by_ref().take(choices.min(MOST_CHOICES)) {
        let cost = cost(endpoint);
        let mut at = count;
        while at > 0 && cost < drawn[at - 1].0 {
            drawn[at] = drawn[at - 1];
            at -= 1;
        }
        drawn[at] = (cost, endpoint);
        count += 1;
    }
    let drawn = drawn[..count].iter().map(|&(_, endpoint)| endpoint);
    drawn.chain(usable).find(|&endpoint| among.admit(endpoint))
}

/// The one of the least cost that takes the call, of all that are usable; equals share by their weights. Each is asked once.
pub(crate) fn all(
    order: &Random,
    hash: u64,
    among: &impl Among,
    mut cost: impl FnMut(usize) -> f64,
) -> Option<usize> {
    let list = order.positions();
    // Whichever comes first is one by chance, for those who note it.
    let (before, from) = list.split_at(scale(hash, list.len() as u64) as usize);
    let mut refused = [usize::MAX; REMEMBERED];
    for count in 0..REMEMBERED {
        let refused = &mut refused[..=count];
        let mut least = f64::INFINITY;
        let mut equals = 0;
        let mut best = None;
        for &endpoint in from.iter().chain(before) {
            let endpoint = endpoint as usize;
            if refused.contains(&endpoint) || !among.is_usable(endpoint) {
                continue;
            }
            let cost = cost(endpoint);
            let weight = u64::from(among.load(endpoint).weight().max(1));
            if cost < least {
                (least, equals, best) = (cost, 0, None);
            }
            if cost <= least {
                equals += weight;
                if best.is_none() || scale(nth(hash, endpoint as u64 + 1), equals) < weight {
                    best = Some(endpoint);
                }
            }
        }
        let best = best?;
        if among.admit(best) {
            return Some(best);
        }
        refused[count] = best;
    }
    order
        .candidates(hash)
        .filter(|endpoint| !refused.contains(endpoint) && among.is_usable(*endpoint))
        .find(|&endpoint| among.admit(endpoint))
}
