//! Whatever the frames, whatever the head says, wherever it is dropped: the guard is told once, and the right thing.

mod support;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body::{Body, Frame, SizeHint};
use proptest::prelude::*;
use support::{Told, finish, recorder, trailers};

/// What the inner body gives at one poll.
#[derive(Clone, Debug)]
enum Given {
    Pending,
    Data(u8),
    Trailers,
    Error,
}

#[derive(Clone, Debug)]
struct Case {
    given: Vec<Given>,
    /// Ends with the last step, by `is_end_stream`.
    says_end: bool,
    /// Knows its exact length.
    exact: bool,
    /// Declares a length that differs from the true one by this.
    declared: Option<i8>,
    announces: bool,
    /// Polled this often, then dropped.
    polls: usize,
}

fn length<'a>(given: impl IntoIterator<Item = &'a Given>) -> u64 {
    given.into_iter().map(|given| if let Given::Data(length) = given { u64::from(*length) } else { 0 }).sum()
}

struct Play {
    given: VecDeque<Given>,
    says_end: bool,
    exact: bool,
}

impl Body for Play {
    type Data = Bytes;
    type Error = ();

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        match self.given.pop_front() {
            None => Poll::Ready(None),
            Some(Given::Pending) => Poll::Pending,
            Some(Given::Data(length)) => Poll::Ready(Some(Ok(Frame::data(vec![0; length.into()].into())))),
            Some(Given::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers("end"))))),
            Some(Given::Error) => Poll::Ready(Some(Err(()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.says_end && self.given.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.exact { SizeHint::with_exact(length(&self.given)) } else { SizeHint::default() }
    }
}

/// The same story told in words, without a body: what the guard is told, and after how many polls.
fn expected(case: &Case) -> (Told, usize) {
    let total = length(&case.given);
    let declared = case.declared.map(|by| total.saturating_add_signed(by.into()));
    let ends_after = match (declared, case.exact.then_some(total)) {
        (Some(declared), Some(exact)) => Some(declared.min(exact)),
        (declared, exact) => declared.or(exact),
    };
    let (mut handed_out, mut polled) = (0, 0);
    let over = |handed_out: u64| ends_after.is_some_and(|length| handed_out >= length);
    let at_end = |polled: usize| case.says_end && polled >= case.given.len();

    if (over(0) && !case.announces) || at_end(0) {
        return (Told::Complete, 0);
    }
    while polled < case.polls {
        polled += 1;
        match case.given.get(polled - 1) {
            None => return (Told::Complete, polled),
            Some(Given::Pending) => {}
            Some(Given::Error) => return (Told::Failed, polled),
            Some(Given::Trailers) => return (Told::Trailers(trailers("end")), polled),
            Some(Given::Data(length)) => {
                handed_out += u64::from(*length);
                if (over(handed_out) && !case.announces) || at_end(polled) {
                    return (Told::Complete, polled);
                }
            }
        }
    }
    let told = if over(handed_out) || at_end(polled) { Told::Complete } else { Told::Aborted };
    (told, usize::MAX)
}

fn cases() -> impl Strategy<Value = Case> {
    let given = prop_oneof![
        2 => Just(Given::Pending),
        5 => (0..20_u8).prop_map(Given::Data),
        1 => Just(Given::Trailers),
        1 => Just(Given::Error),
    ];
    (prop::collection::vec(given, 0..8), any::<(bool, bool, bool)>(), prop::option::of(-3..4_i8), 0..10_usize)
        .prop_map(|(given, (says_end, exact, announces), declared, polls)| Case {
            given,
            says_end,
            exact,
            declared,
            announces,
            polls,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_guard_is_told_once_and_the_right_thing(case in cases()) {
        let (guard, mut record) = recorder();
        let mut head = HeaderMap::new();
        if let Some(by) = case.declared {
            head.insert("content-length", length(&case.given).saturating_add_signed(by.into()).into());
        }
        if case.announces {
            head.insert("trailer", "x-end".parse().unwrap());
        }
        let play = Play { given: case.given.clone().into(), says_end: case.says_end, exact: case.exact };
        let mut response = Response::new(play);
        *response.headers_mut() = head;

        let mut body = finish(&Method::GET, response, guard).into_body();

        let (told, at) = expected(&case);
        for polled in 0..=case.polls {
            let so_far = record.so_far();
            if polled < at {
                prop_assert_eq!(so_far, None, "held after {} polls", polled);
            } else if polled == at {
                prop_assert_eq!(so_far, Some(vec![told.clone()]), "told after {} polls", polled);
            } else {
                prop_assert_eq!(so_far, Some(vec![]), "told nothing more");
            }
            if polled < case.polls {
                let _ = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
            }
        }
        drop(body);
        prop_assert_eq!(record.so_far(), Some(if at <= case.polls { vec![] } else { vec![told] }));
    }
}
