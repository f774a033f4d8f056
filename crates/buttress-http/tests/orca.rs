//! What servers report of their load, in all forms that are about.

use std::convert::Infallible;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use buttress_core::{Classify, End, LoadReport, Outcome, Verdict};
use buttress_http::classify::{self, Orca};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use proptest::prelude::*;
use prost::Message;

/// The message as its authors have it (`xds/data/orca/v3/orca_load_report.proto`), for prost to write.
#[derive(Clone, PartialEq, Message)]
struct OrcaLoadReport {
    #[prost(double, tag = "1")]
    cpu_utilization: f64,
    #[prost(double, tag = "2")]
    mem_utilization: f64,
    #[prost(uint64, tag = "3")]
    rps: u64,
    #[prost(map = "string, double", tag = "4")]
    request_cost: std::collections::HashMap<String, f64>,
    #[prost(map = "string, double", tag = "5")]
    utilization: std::collections::HashMap<String, f64>,
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(double, tag = "7")]
    eps: f64,
    #[prost(map = "string, double", tag = "8")]
    named_metrics: std::collections::HashMap<String, f64>,
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

fn full(named: usize) -> OrcaLoadReport {
    OrcaLoadReport {
        cpu_utilization: 0.25,
        mem_utilization: 0.75,
        rps: 300,
        request_cost: [("rows".to_owned(), 7.0)].into(),
        utilization: [("disk".to_owned(), 0.5)].into(),
        rps_fractional: 87.5,
        eps: 3.0,
        named_metrics: (0..named).map(|at| (format!("metric-{at}"), at as f64)).collect(),
        application_utilization: 0.5,
    }
}

fn expected() -> LoadReport {
    LoadReport::new().with_cpu(0.25).with_application(0.5).with_rate(87.5).with_errors(3.0)
}

const METRICS: &str = "endpoint-load-metrics";
const BINARY: &str = "endpoint-load-metrics-bin";

fn fields(name: &'static str, value: &[u8]) -> HeaderMap {
    let value = HeaderValue::from_bytes(value).expect("a field's value");
    [(HeaderName::from_static(name), value)].into_iter().collect()
}

type Status = Orca<classify::Status>;

fn read_by(orca: &Status, fields: HeaderMap) -> Option<LoadReport> {
    let mut response = Response::new(());
    *response.headers_mut() = fields;
    match orca.classify(Ok::<_, &Infallible>(&response)) {
        Verdict::Now(outcome) => outcome.load,
        Verdict::AtEnd => panic!("judged by the status"),
    }
}

/// What is read of this field, and how many reports were malformed.
fn read(name: &'static str, value: impl AsRef<[u8]>) -> (Option<LoadReport>, u64) {
    let orca = classify::orca(classify::status());
    let report = read_by(&orca, fields(name, value.as_ref()));
    (report, orca.malformed())
}

#[test]
fn a_binary_report_is_read_with_padding_and_without_and_of_any_length() {
    for named in [0, 1, 2, 3, 100] {
        let bytes = full(named).encode_to_vec();
        assert_eq!(read(BINARY, STANDARD.encode(&bytes)), (Some(expected()), 0));
        assert_eq!(read(BINARY, STANDARD_NO_PAD.encode(&bytes)), (Some(expected()), 0));
        assert_eq!(read(METRICS, format!("BIN {}", STANDARD.encode(&bytes))), (Some(expected()), 0));
    }
    assert_eq!(read(BINARY, ""), (Some(LoadReport::new()), 0), "a message of defaults is empty");
}

#[test]
fn a_text_report_is_read() {
    let text = "TEXT cpu_utilization=0.25, application_utilization=0.5,rps_fractional = 87.5 ,eps=3, mem_utilization=0.75";
    assert_eq!(read(METRICS, text), (Some(expected()), 0));
    assert_eq!(read(METRICS, "TEXT eps:3, cpu_utilization:0.25").0.unwrap().errors(), 3.0);
    assert_eq!(read(METRICS, "TEXT named_metrics.kv_cache_usage_perc=0.4"), (Some(LoadReport::new()), 0));
}

#[test]
fn a_json_report_is_read_by_both_kinds_of_names() {
    let snake =
        r#"JSON {"cpu_utilization":0.25,"application_utilization":0.5,"rps_fractional":87.5,"eps":3}"#;
    let camel = r#"JSON {"cpuUtilization":"0.25","applicationUtilization":0.5,"rpsFractional":87.5,"eps":3.0,
        "named_metrics":{"a":1.0}}"#
        .replace('\n', "");
    assert_eq!(read(METRICS, snake), (Some(expected()), 0));
    assert_eq!(read(METRICS, camel), (Some(expected()), 0));
}

#[test]
fn a_malformed_report_is_absent_and_counted_and_the_answer_judged_all_the_same() {
    for (name, value) in [
        (BINARY, "%%%"),
        (BINARY, "CQ"),
        // A field of 127 bytes that are not there, a group, a varint without an end.
        (BINARY, "In8"),
        (BINARY, "Cw"),
        (BINARY, "CP//////////////AQ"),
        (METRICS, ""),
        (METRICS, "cpu_utilization=0.25"),
        (METRICS, "TEXT cpu_utilization"),
        (METRICS, "TEXT cpu_utilization=much"),
        (METRICS, "TEXT cpu_utilization=NaN"),
        (METRICS, "TEXT eps=inf"),
        (METRICS, "TEXT eps=-1"),
        (METRICS, "TEXT eps=1e300"),
        (METRICS, "JSON "),
        (METRICS, "JSON []"),
        (METRICS, r#"JSON {"eps":[]}"#),
        (METRICS, r#"JSON {"eps":"NaN"}"#),
        (METRICS, "BIN %%%"),
    ] {
        assert_eq!(read(name, value), (None, 1), "{name}: {value}");
    }
    let nan = OrcaLoadReport { eps: f64::NAN, ..full(0) }.encode_to_vec();
    assert_eq!(read(BINARY, STANDARD.encode(nan)), (None, 1));
}

#[test]
fn an_answer_without_a_report_is_none_and_clones_count_together() {
    let orca = classify::orca(classify::status());
    assert_eq!(read_by(&orca, HeaderMap::new()), None);
    let clone = orca.clone();
    assert_eq!(read_by(&clone, fields(METRICS, b"what?")), None);
    assert_eq!((orca.malformed(), clone.malformed()), (1, 1));
}

#[test]
fn trailers_tell_where_the_end_is_judged_and_a_head_that_told_is_asked_for() {
    let orca = classify::orca(classify::grpc());
    let mut trailers = fields(METRICS, b"TEXT eps=3");
    trailers.insert("grpc-status", HeaderValue::from_static("14"));
    let report = LoadReport::new().with_errors(3.0);

    let head = Response::builder().header("content-type", "application/grpc").header(METRICS, "TEXT eps=3");
    let head = head.body(()).unwrap();
    assert_eq!(orca.classify(Ok::<_, &Infallible>(&head)), Verdict::AtEnd);
    assert_eq!(Classify::<_, Infallible>::load(&orca, &head), Some(report));

    let at_end = |end| Classify::<Response<()>, Infallible>::at_end(&orca, &end);
    let end = End::Complete { trailers: Some(&trailers) };
    assert_eq!(at_end(end), Outcome::failure().with_load(report));
    assert_eq!(at_end(End::Complete { trailers: None }), Outcome::failure());
    assert_eq!(at_end(End::Aborted), Outcome::ignored());
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_counted(value in proptest::collection::vec(any::<u8>(), 0..64), form in 0..4_usize) {
        let value = [&b""[..], b"BIN ", b"JSON ", b"TEXT "][form].iter().chain(&value).copied().collect::<Vec<_>>();
        for name in [BINARY, METRICS] {
            if HeaderValue::from_bytes(&value).is_ok() {
                let (report, malformed) = read(name, &value);
                prop_assert_eq!(u64::from(report.is_none()), malformed);
            }
            let (report, malformed) = read(name, STANDARD.encode(&value));
            prop_assert_eq!(u64::from(report.is_none()), malformed);
        }
    }
}
