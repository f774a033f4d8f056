//! What the scanner lets pass, hyper frames into the same requests: nothing is left between the two to smuggle.

use buttress_proxy::server::wire::Limits;
use http::Version;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use crate::framing::{Framed, dechunked, framed, framed_in_pieces};
use crate::serve::{Client, Seen, without_guard};
use crate::streams::{cases, mutated};

/// Whether hyper ends the connection after a request, so that it does not read what follows.
fn ends(seen: &Seen) -> bool {
    let has = |token: &str| {
        let lines = seen.fields.get_all("connection").iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|it| it.trim().eq_ignore_ascii_case(token))
    };
    has("close") || (seen.version == Version::HTTP_10 && !has("keep-alive")) || seen.body.is_none()
}

/// Compares the scanner's requests with hyper's: as many, with the same request lines, fields and bodies.
fn agree(framed: &Framed, seen: &[Seen]) -> Result<(), TestCaseError> {
    let mut seen = seen.iter();
    for (at, (head, body)) in framed.requests.iter().enumerate() {
        let Some(it) = seen.next() else {
            return Err(TestCaseError::fail(format!(
                "hyper does not know request {at}: {}",
                head.escape_ascii()
            )));
        };
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut fields);
        prop_assert!(request.parse(head).is_ok());
        prop_assert_eq!(Some(it.method.as_str()), request.method);
        prop_assert_eq!(it.fields.len(), request.headers.len());
        for field in request.headers.iter() {
            let mut values = it.fields.get_all(field.name).iter();
            prop_assert!(values.any(|value| value.as_bytes() == field.value), "{}", field.name);
        }
        let whole = framed.whole || at + 1 < framed.requests.len();
        let expected =
            if it.fields.contains_key("transfer-encoding") { dechunked(body) } else { Some(body.clone()) };
        prop_assert_eq!(&it.body, &expected.filter(|_| whole), "{}", head.escape_ascii());
        if ends(it) {
            break;
        }
    }
    prop_assert!(seen.next().is_none(), "hyper knows more requests");
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(cases(10_000, 500_000))]

    #[test]
    fn hyper_frames_what_passes_in_the_same_way(stream in mutated()) {
        let framed = framed(&stream);

        let (seen, answers) = runtime().block_on(without_guard(&framed.passed()));

        prop_assert!(!answers.contains("HTTP/1.1 400"), "hyper refuses what passes: {}", answers);
        agree(&framed, &seen)?;
    }
}

proptest! {
    #![proptest_config(cases(3_000, 200_000))]

    #[test]
    fn a_guard_hands_hyper_what_passes_wherever_the_bytes_are_cut(
        stream in mutated(),
        pieces in prop::collection::vec(1..60_usize, 1..12),
    ) {
        let framed = framed_in_pieces(&stream, Limits::new(), &[stream.len()]);

        let (seen, answers) = runtime().block_on(async {
            let mut client = Client::connect();
            let (mut rest, mut pieces) = (&stream[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
                // After a `Connection: close` nobody may be there any more.
                if client.io.write_all(piece).await.is_err() {
                    break;
                }
                rest = after;
                tokio::task::yield_now().await;
            }
            let answers = client.so_far().await;
            (client.log.taken(), answers)
        });

        // A body that has not come whole is not noted yet.
        let mut expected = framed.clone();
        if !framed.whole && !framed.in_body {
            expected.requests.pop();
            expected.whole = true;
        }
        agree(&expected, &seen)?;
        let all = seen.len() == framed.requests.len() && !seen.last().is_some_and(|last| last.body.is_some() && ends(last));
        if let Some(violation) = framed.refused.filter(|_| all) {
            let status = format!("HTTP/1.1 {} ", violation.status().as_str());
            prop_assert!(answers.contains(&status), "no {violation:?} in {answers}");
        }
    }
}
