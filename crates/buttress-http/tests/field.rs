//! Header fields, read and written.

use std::time::Duration;

use buttress_http::field::{self, Streaming};
use http::{HeaderMap, HeaderValue, Response};
use proptest::prelude::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
const LATER: &str = "Sun, 06 Nov 1994 12:00:30 GMT";

#[test]
fn retry_after_is_seconds_or_a_date_since_the_response() {
    let secs = |seconds| Some(Duration::from_secs(seconds));
    for (value, date, wait) in [
        ("120", None, secs(120)),
        (" 120 ", None, secs(120)),
        ("0", None, secs(0)),
        ("99999999999999999999999", None, secs(u64::MAX)),
        (LATER, Some(NOON), secs(30)),
        ("Sunday, 06-Nov-94 12:00:30 GMT", Some(NOON), secs(30)),
        ("Sun Nov  6 12:00:30 1994", Some(NOON), secs(30)),
        (NOON, Some(LATER), secs(0)),
        (LATER, None, None),
        (LATER, Some("yesterday"), None),
        ("-1", None, None),
        ("+1", None, None),
        ("1.5", None, None),
        ("", None, None),
    ] {
        let mut fields = vec![("retry-after", value)];
        fields.extend(date.map(|date| ("date", date)));

        assert_eq!(field::retry_after(&headers(&fields)), wait, "{value:?} {date:?}");
    }
    assert_eq!(field::retry_after(&HeaderMap::new()), None);
}

#[test]
fn of_several_retry_after_the_longest_counts() {
    let fields = [("retry-after", "1"), ("retry-after", "3"), ("retry-after", "soon"), ("retry-after", "2")];

    assert_eq!(field::retry_after(&headers(&fields)), Some(Duration::from_secs(3)));
}

#[test]
fn a_date_to_retry_after_is_well_formed_with_and_without_a_date_beside_it() {
    let malformed = |values: &[&str]| {
        let fields: Vec<_> = values.iter().map(|value| ("retry-after", *value)).collect();
        field::is_retry_after_malformed(&headers(&fields))
    };

    for fine in [&[][..], &["3"], &[LATER], &["3", LATER], &["99999999999999999999999"]] {
        assert!(!malformed(fine), "{fine:?}");
    }
    for bad in [&["soon"][..], &[""], &["-1"], &["3", "soon"], &["soon", LATER]] {
        assert!(malformed(bad), "{bad:?}");
    }
}

#[test]
fn grpc_timeouts_are_read_as_the_protocol_says() {
    for (value, timeout) in [
        ("1n", Some(Duration::from_nanos(1))),
        ("20u", Some(Duration::from_micros(20))),
        ("99999999m", Some(Duration::from_millis(99_999_999))),
        ("3S", Some(Duration::from_secs(3))),
        ("2M", Some(Duration::from_secs(120))),
        ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
        ("0S", Some(Duration::ZERO)),
        ("100000000S", None),
        ("000000001S", None),
        ("S", None),
        ("3", None),
        ("3s", None),
        ("3 S", None),
        ("-3S", None),
        ("", None),
    ] {
        assert_eq!(field::grpc_timeout(&headers(&[("grpc-timeout", value)])), timeout, "{value:?}");
    }
}

#[test]
fn grpc_timeouts_are_written_in_the_finest_unit_that_fits() {
    for (timeout, value) in [
        (Duration::ZERO, "1n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_nanos(100_000_999), "100000u"),
        (Duration::from_secs(99), "99000000u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(100_000), "100000S"),
        (Duration::from_secs(100_000_000), "1666666M"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(field::grpc_timeout_value(timeout), value);
    }
}

#[test]
fn grpc_is_told_by_its_content_type() {
    for (content_type, is_grpc) in [
        ("application/grpc", true),
        ("Application/GRPC", true),
        ("application/grpc+proto", true),
        ("application/grpc; charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/grpc-web+proto", false),
        ("application/grpcx", false),
        ("application/json", false),
        ("", false),
    ] {
        assert_eq!(field::is_grpc(&headers(&[("content-type", content_type)])), is_grpc, "{content_type}");
    }
    assert!(!field::is_grpc(&HeaderMap::new()));
}

#[test]
fn a_response_streams_by_its_mark_its_type_or_its_protocol() {
    let of = |status: u16, fields: &[(&'static str, &str)]| {
        let mut response = Response::builder().status(status).body(()).unwrap();
        *response.headers_mut() = headers(fields);
        field::is_streaming(&response)
    };

    assert!(of(200, &[("content-type", "text/event-stream")]));
    assert!(of(200, &[("content-type", "Text/Event-Stream; charset=utf-8")]));
    assert!(of(200, &[("content-type", "application/grpc")]));
    assert!(of(101, &[]));
    assert!(!of(200, &[("content-type", "application/grpc"), ("grpc-status", "5")]));
    assert!(!of(200, &[("content-type", "text/event-streams")]));
    assert!(!of(200, &[]));

    let mut marked = Response::new(());
    marked.extensions_mut().insert(Streaming);
    assert!(field::is_streaming(&marked));
}

proptest! {
    #[test]
    fn no_bytes_upset_the_readers(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
        let mut fields = HeaderMap::new();
        for name in ["retry-after", "date", "grpc-timeout", "content-type"] {
            fields.insert(name, value.clone());
        }
        let _ = (field::retry_after(&fields), field::grpc_timeout(&fields), field::is_grpc(&fields));
    }

    #[test]
    fn a_written_retry_after_reads_as_the_wait_rounded_up(wait in any::<Duration>()) {
        let mut fields = HeaderMap::new();
        fields.insert("retry-after", field::retry_after_value(wait));

        let read = field::retry_after(&fields).unwrap();

        prop_assert!(read >= wait || read == Duration::from_secs(u64::MAX));
        prop_assert!(read.as_secs() - wait.as_secs() <= 1);
    }

    #[test]
    fn a_written_grpc_timeout_reads_as_no_longer_and_hardly_shorter(
        nanos in prop_oneof![1..u64::MAX, 1..10_000_000_000_u64],
    ) {
        let timeout = Duration::from_nanos(nanos);
        let mut fields = HeaderMap::new();
        fields.insert("grpc-timeout", field::grpc_timeout_value(timeout));

        let read = field::grpc_timeout(&fields).unwrap();

        prop_assert!(read <= timeout);
        prop_assert!(timeout - read <= timeout / 100_000, "{timeout:?} read as {read:?}");
    }
}

#[test]
fn a_pushback_is_a_wait_or_a_no_and_what_is_not_understood_is_told_apart() {
    use buttress_http::field::Pushback;

    let pushback = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-retry-pushback-ms", value.parse().unwrap());
        field::grpc_pushback(&headers)
    };

    assert_eq!(pushback("0"), Some(Pushback::After(Duration::ZERO)));
    assert_eq!(pushback("2147483647"), Some(Pushback::After(Duration::from_millis(2_147_483_647))));
    assert_eq!(pushback("-1"), Some(Pushback::Never));
    for malformed in ["", "soon", "1.5", "2147483648", "99999999999999999999"] {
        assert_eq!(pushback(malformed), Some(Pushback::Malformed), "{malformed:?}");
    }
    assert_eq!(field::grpc_pushback(&HeaderMap::new()), None);

    let several = headers(&[("grpc-retry-pushback-ms", "5"), ("grpc-retry-pushback-ms", "5")]);
    assert_eq!(field::grpc_pushback(&several), Some(Pushback::Malformed));
}
