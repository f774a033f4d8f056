use std::collections::HashMap;

use buttress_balance::Split;
use proptest::collection::vec;
use proptest::prelude::*;

use super::sides;

/// Two sets of weights for the same sides, each with one above 0.
fn changes() -> impl Strategy<Value = (Vec<u32>, Vec<u32>)> {
    (1..6_usize).prop_flat_map(|sides| {
        let weights =
            || vec(0..200_u32, sides).prop_filter("one is above 0", |all| all.iter().any(|w| *w > 0));
        (weights(), weights())
    })
}

proptest! {
    #[test]
    fn a_user_moves_to_a_side_only_if_its_weight_grew_against_that_of_its_own(
        (from, to) in changes(),
        first in any::<u64>(),
    ) {
        let handle = Split::new(sides(&from)).handle();
        let users = || (0..300).map(|user| first.wrapping_add(user));
        let before: HashMap<u64, usize> = users().map(|user| (user, handle.side_of(user))).collect();

        handle.set_weights(to.iter().copied()).unwrap();

        for (user, old) in before {
            let new = handle.side_of(user);
            prop_assert!(to[new] > 0, "a side of weight 0 gets none");
            if new != old {
                let [grown, shrunk] = [new, old].map(|side| (u64::from(from[side]), u64::from(to[side])));
                prop_assert!(
                    grown.1 * shrunk.0 > grown.0 * shrunk.1,
                    "{user} went from {old} to {new}: {from:?} -> {to:?}"
                );
            }
        }
    }

    #[test]
    fn when_a_canary_grows_users_go_to_it_and_to_no_other(
        stable in 1..100_u32,
        others in vec(0..100_u32, 0..3),
        canary in 0..100_u32,
        more in 1..100_u32,
        first in any::<u64>(),
    ) {
        let weights: Vec<u32> = [stable].into_iter().chain(others).chain([canary]).collect();
        let last = weights.len() - 1;
        let handle = Split::new(sides(&weights)).handle();
        let users = || (0..300).map(|user| first.wrapping_add(user));
        let before: Vec<usize> = users().map(|user| handle.side_of(user)).collect();

        handle.set_weight(last, canary + more).unwrap();

        for (user, old) in users().zip(before) {
            let new = handle.side_of(user);
            prop_assert!(new == old || new == last, "{user} went from {old} to {new}");
        }
    }

    #[test]
    fn weights_that_went_and_came_back_put_every_user_where_it_was((from, to) in changes(), first in any::<u64>()) {
        let handle = Split::new(sides(&from)).handle();
        let users = || (0..100).map(|user| handle.side_of(first.wrapping_add(user))).collect::<Vec<_>>();
        let before = users();

        handle.set_weights(to).unwrap();
        handle.set_weights(from).unwrap();

        prop_assert_eq!(users(), before);
    }

    #[test]
    fn weights_times_one_number_are_the_same_weights(
        weights in vec(1..1000_u32, 1..5),
        factor in 1..1000_u32,
        user in any::<u64>(),
    ) {
        let one = Split::new(sides(&weights)).handle();
        let more: Vec<u32> = weights.iter().map(|weight| weight * factor).collect();
        let other = Split::new(sides(&more)).handle();
        prop_assert_eq!(one.side_of(user), other.side_of(user));
    }
}
