//! Which shard has which key.

use std::num::NonZeroU32;

use buttress_balance::{HashMod, Hashing, Jump, RangeError, Ranges, ShardMap, jump};
use proptest::prelude::*;

fn of(shards: u32) -> NonZeroU32 {
    NonZeroU32::new(shards).unwrap()
}

#[test]
fn ranges_have_their_start_and_not_their_end() {
    let ranges = Ranges::new().with(10..20_u8, 0).unwrap().with(200.., 2).unwrap().with(30..40, 1).unwrap();

    let found = |key| ranges.shard(&key);
    assert_eq!([9, 10, 19, 20].map(found), [None, Some(0), Some(0), None]);
    assert_eq!([29, 30, 39, 40].map(found), [None, Some(1), Some(1), None]);
    assert_eq!([199, 200, 255].map(found), [None, Some(2), Some(2)]);
}

#[test]
fn texts_and_bytes_are_ordered_keys_too() {
    let names = Ranges::new().with(..String::from("m"), 0).unwrap().with(String::from("m").., 1).unwrap();
    assert_eq!(["adam", "m", "zoe"].map(|name| names.shard(&name.to_owned())), [Some(0), Some(1), Some(1)]);

    let bytes = Ranges::new().with(vec![0_u8]..vec![0, 0, 1], 0).unwrap();
    assert_eq!(bytes.shard(&vec![0, 0]), Some(0));
    assert_eq!(bytes.shard(&vec![]), None);
}

#[test]
fn ranges_that_cannot_be_are_refused_with_the_rule() {
    let ranges = Ranges::new().with(10..20, 0).unwrap();
    let refused = |made: Result<Ranges<i32>, RangeError>| made.unwrap_err().to_string();

    assert_eq!(refused(ranges.clone().with(5..5, 1)), "range 5..5 is empty: its start must be below its end");
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let backward = ranges.clone().with(9..5, 1);
    assert!(matches!(backward, Err(RangeError::Empty { .. })));
    assert_eq!(
        refused(ranges.clone().with(19..30, 1)),
        "range 19..30 overlaps 10..20: each key has one shard"
    );
    for overlapping in [5..11, 12..13, 10..20, 0..100] {
        assert!(matches!(ranges.clone().with(overlapping, 1), Err(RangeError::Overlap { .. })));
    }
    assert!(matches!(ranges.clone().with(.., 1), Err(RangeError::Overlap { .. })));
    assert!(matches!(ranges.clone().with(0..=9, 1), Err(RangeError::Form { .. })));
    assert!(ranges.clone().with(20..30, 1).unwrap().with(0..10, 1).is_ok());
    assert_eq!(
        refused(ranges.moved(15..25, 1)),
        "some key of the range 15..25 has no shard that it could move from"
    );
    for gap in [0..12, 0..5, 0..100] {
        assert!(matches!(ranges.moved(gap, 1), Err(RangeError::Gap { .. })));
    }
    assert!(matches!(ranges.moved(.., 1), Err(RangeError::Gap { .. })));
    assert!(matches!(Ranges::new().moved(1..2, 1), Err(RangeError::Gap { .. })));
    assert!(matches!(Ranges::<i32>::new().moved(.., 1), Err(RangeError::Gap { .. })));
}

#[test]
fn modulo_and_jump_are_what_they_are_called() {
    for hash in [0, 1, 17, u64::MAX] {
        assert_eq!(HashMod::new(of(7)).shard(&hash), Some((hash % 7) as usize));
        assert_eq!(Jump::new(of(7)).shard(&hash), Some(jump(hash, of(7)) as usize));
    }
}

#[test]
fn with_one_shard_more_jump_moves_its_share_and_modulo_nearly_all() {
    let moved = |map: &dyn Fn(u64, u32) -> Option<usize>| {
        let hashes = (0..10_000_u64).map(|key| Hashing::default().of(&key.to_le_bytes()));
        hashes.filter(|hash| map(*hash, 10) != map(*hash, 11)).count()
    };

    assert!((700..1150).contains(&moved(&|hash, shards| Jump::new(of(shards)).shard(&hash))));
    assert!((8900..9300).contains(&moved(&|hash, shards| HashMod::new(of(shards)).shard(&hash))));
}

proptest! {
    #[test]
    fn ranges_map_as_a_list_that_is_searched_from_end_to_end(
        cuts in prop::collection::btree_set(0_u8..100, 2..20),
        shards in prop::collection::vec(prop::option::of(0_usize..4), 19),
        moves in prop::collection::vec((0_u8..100, 0_u8..100, 4_usize..8), 0..6),
    ) {
        let cuts: Vec<u8> = cuts.into_iter().collect();
        let mut ranges = Ranges::new();
        let mut list = [None; 100];
        // Added from behind: the order of adding does not matter.
        for (pair, shard) in cuts.windows(2).zip(shards).rev() {
            if let Some(shard) = shard {
                ranges = ranges.with(pair[0]..pair[1], shard).unwrap();
                list[pair[0] as usize..pair[1] as usize].fill(Some(shard));
            }
        }
        for (start, end, shard) in moves {
            let part = list.get_mut(start as usize..end as usize).filter(|part| !part.is_empty());
            match (part, ranges.moved(start..end, shard)) {
                (Some(part), Ok(moved)) => {
                    prop_assert!(part.iter().all(Option::is_some));
                    part.fill(Some(shard));
                    ranges = moved;
                }
                (Some(part), Err(RangeError::Gap { .. })) => prop_assert!(part.iter().any(Option::is_none)),
                (None, Err(RangeError::Empty { .. })) => {}
                (_, other) => prop_assert!(false, "{other:?}"),
            }
            for key in 0..100_u8 {
                prop_assert_eq!(ranges.shard(&key), list[key as usize], "{} in {:?}", key, ranges);
            }
        }
    }
}
