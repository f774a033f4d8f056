//! The scanner against every mixture of requests and faults.

use buttress_proxy::server::wire::{Limits, Violation};
use proptest::prelude::*;

use crate::framing::{framed, framed_in_pieces};
use crate::streams::{cases, mutated, right};

fn small() -> Limits {
    Limits::new().head_bytes(256).fields(3).target_bytes(12).trailer_bytes(24)
}

proptest! {
    #![proptest_config(cases(10_000, 1_000_000))]

    #[test]
    fn where_the_bytes_are_cut_makes_no_difference(
        stream in mutated(),
        pieces in prop::collection::vec(1..30_usize, 1..20),
    ) {
        prop_assert_eq!(framed_in_pieces(&stream, Limits::new(), &pieces), framed(&stream));
    }

    #[test]
    fn where_the_bytes_are_cut_makes_no_difference_at_the_limits(
        stream in mutated(),
        pieces in prop::collection::vec(1..30_usize, 1..20),
    ) {
        let whole = framed_in_pieces(&stream, small(), &[stream.len()]);
        prop_assert_eq!(framed_in_pieces(&stream, small(), &pieces), whole);
    }

    #[test]
    fn what_passes_is_a_part_of_what_came_in_its_order(stream in mutated()) {
        let passed = framed(&stream).passed();
        let mut rest = &stream[..];
        for byte in passed {
            let at = rest.iter().position(|&it| it == byte);
            prop_assert!(at.is_some(), "a byte was made up");
            rest = &rest[at.unwrap() + 1..];
        }
    }

    #[test]
    fn a_head_that_passes_is_one_for_httparse_too(stream in mutated()) {
        for (head, _) in framed(&stream).requests {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut request = httparse::Request::new(&mut fields);
            prop_assert_eq!(request.parse(&head), Ok(httparse::Status::Complete(head.len())));
        }
    }

    #[test]
    fn requests_that_are_right_pass_whole(stream in right()) {
        let framed = framed(&stream);

        prop_assert_eq!(framed.refused, None);
        prop_assert!(framed.whole);
        let expected = String::from_utf8(stream).unwrap().replace("\r\nGET /g", "GET /g");
        prop_assert_eq!(String::from_utf8(framed.passed()).unwrap(), expected);
    }

    #[test]
    fn any_bytes_at_all_are_read_without_a_panic(stream in prop::collection::vec(any::<u8>(), 0..200)) {
        let whole = framed(&stream);
        prop_assert_eq!(framed_in_pieces(&stream, Limits::new(), &[1]), whole);
    }
}

#[test]
fn every_cut_of_each_right_request_gives_the_same() {
    for request in crate::streams::RIGHT {
        let stream = request.repeat(2).into_bytes();
        let whole = framed(&stream);
        for cut in 1..stream.len() {
            assert_eq!(
                framed_in_pieces(&stream, Limits::new(), &[cut, stream.len()]),
                whole,
                "{request:?} at {cut}"
            );
        }
        assert_eq!(framed_in_pieces(&stream, Limits::new(), &[1]), whole, "{request:?}");
    }
}

#[test]
fn each_refusal_has_a_name_of_its_own_and_an_error_status() {
    let mut names: Vec<_> = Violation::ALL.iter().map(|violation| violation.name()).collect();
    names.sort_unstable();
    names.dedup();

    assert_eq!(names.len(), Violation::ALL.len());
    assert!(Violation::ALL.iter().all(|violation| violation.status().as_u16() >= 400));
    assert!(Violation::ALL.iter().all(|violation| violation.section().starts_with("RFC ")));
}
