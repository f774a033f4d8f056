//! What servers report of their load, as ORCA says: in a field of the answer or of its trailers.
//!
//! | field | value |
//! |---|---|
//! | `endpoint-load-metrics-bin` | an [`OrcaLoadReport`] in the binary form of protocol buffers, as base64 |
//! | `endpoint-load-metrics` | `BIN ` and the same, `JSON ` and the message as JSON, or `TEXT cpu_utilization=0.3, rps_fractional=17.5` |
//!
//! ```text
//! OrcaLoadReport { double cpu_utilization = 1; double rps_fractional = 6; double eps = 7; double application_utilization = 9; … }
//! ```
//!
//! [`OrcaLoadReport`]: https://github.com/cncf/xds/blob/main/xds/data/orca/v3/orca_load_report.proto

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeSliceError, Engine};
use buttress_core::{Classify, End, LoadReport, Outcome, Verdict};
use http::{HeaderMap, HeaderName, Response};
use serde_json::Value;

const BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");
const METRICS: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// gRPC senders leave the padding away, and others do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A report of the usual length is decoded without an allocation.
const USUAL: usize = 512;

/// Judges as `inner` does, and adds what the server reported of its load with the answer (ORCA), for a balancer that weighs endpoints
/// by it.
///
/// Where the call is judged at its head, the fields of the head count; where it is judged at the end of its body, the trailers do, and
/// of an answer that has a report in the head and none in the trailers the former ([`Classify::load`]). Both fields are read,
/// `endpoint-load-metrics-bin` first, in all forms: `BIN`, `JSON` and `TEXT`.
///
/// A report that cannot be read is no report, and [counted](Orca::malformed).
///
/// ```
/// use buttress_core::{Classify, LoadReport, Outcome, Verdict};
/// use buttress_http::classify;
/// use std::convert::Infallible;
///
/// let response = http::Response::builder()
///     .header("endpoint-load-metrics", "TEXT cpu_utilization=0.25, rps_fractional=100")
///     .body(())
///     .unwrap();
/// let verdict = classify::orca(classify::status()).classify(Ok::<_, &Infallible>(&response));
/// let report = LoadReport::new().with_cpu(0.25).with_rate(100.0);
/// assert_eq!(verdict, Verdict::Now(Outcome::success().with_load(report)));
/// ```
#[must_use]
pub fn orca<C>(inner: C) -> Orca<C> {
    Orca { inner, malformed: Arc::default() }
}

/// Adds reports of load to what another classifier says. Made by [`orca()`]; clones count together.
#[derive(Clone)]
pub struct Orca<C> {
    inner: C,
    malformed: Arc<AtomicU64>,
}

impl<C> Orca<C> {
    /// How many reports could not be read.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    fn read(&self, fields: &HeaderMap) -> Option<LoadReport> {
        match report(fields)? {
            Ok(report) => Some(report),
            Err(Malformed) => {
                self.malformed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    fn add(&self, outcome: Outcome, fields: &HeaderMap) -> Outcome {
        match self.read(fields) {
            Some(report) => outcome.with_load(report),
            None => outcome,
        }
    }
}

impl<B, E, C: Classify<Response<B>, E>> Classify<Response<B>, E> for Orca<C> {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match (self.inner.classify(result), result) {
            (Verdict::Now(outcome), Ok(response)) => Verdict::Now(self.add(outcome, response.headers())),
            (verdict, _) => verdict,
        }
    }

    fn at_end(&self, end: &End<'_>) -> Outcome {
        let outcome = self.inner.at_end(end);
        match end {
            End::Complete { trailers: Some(trailers) } => self.add(outcome, trailers),
            _ => outcome,
        }
    }

    fn streams(&self, response: &Response<B>) -> bool {
        self.inner.streams(response)
    }

    fn load(&self, response: &Response<B>) -> Option<LoadReport> {
        self.read(response.headers())
    }
}

impl<C: fmt::Debug> fmt::Debug for Orca<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orca").field("inner", &self.inner).field("malformed", &self.malformed()).finish()
    }
}

struct Malformed;

/// The report in these fields, if there is one.
fn report(fields: &HeaderMap) -> Option<Result<LoadReport, Malformed>> {
    if let Some(value) = fields.get(BINARY) {
        return Some(of_base64(value.as_bytes()));
    }
    let value = fields.get(METRICS)?.as_bytes();
    Some(if let Some(text) = value.strip_prefix(b"TEXT ") {
        std::str::from_utf8(text).map_err(|_| Malformed).and_then(of_text)
    } else if let Some(message) = value.strip_prefix(b"JSON ") {
        of_json(message)
    } else if let Some(message) = value.strip_prefix(b"BIN ") {
        of_base64(message)
    } else {
        Err(Malformed)
    })
}

fn of_base64(text: &[u8]) -> Result<LoadReport, Malformed> {
    let text = text.trim_ascii();
    let mut usual = [0; USUAL];
    match BASE64.decode_slice(text, &mut usual) {
        Ok(length) => of_message(&usual[..length]),
        Err(DecodeSliceError::OutputSliceTooSmall) => {
            of_message(&BASE64.decode(text).map_err(|_| Malformed)?)
        }
        Err(DecodeSliceError::DecodeError(_)) => Err(Malformed),
    }
}

/// Reads the message, and passes over the fields that nothing is made of.
fn of_message(mut message: &[u8]) -> Result<LoadReport, Malformed> {
    let mut report = LoadReport::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                varint(&mut message)?;
            }
            1 => {
                let (number, rest) = message.split_first_chunk().ok_or(Malformed)?;
                report = with(report, name(tag >> 3), f64::from_le_bytes(*number))?;
                message = rest;
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).map_err(|_| Malformed)?;
                message = message.get(length..).ok_or(Malformed)?;
            }
            5 => message = message.get(4..).ok_or(Malformed)?,
            _ => return Err(Malformed),
        }
    }
    Ok(report)
}

/// What the fields of the message are called that a report is made of.
const fn name(field: u64) -> &'static str {
    match field {
        1 => "cpu_utilization",
        6 => "rps_fractional",
        7 => "eps",
        9 => "application_utilization",
        _ => "",
    }
}

fn varint(from: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = from.split_first().ok_or(Malformed)?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn of_text(text: &str) -> Result<LoadReport, Malformed> {
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).try_fold(
        LoadReport::new(),
        |report, pair| {
            // Envoy takes a colon as well.
            let (name, number) = pair.split_once(['=', ':']).ok_or(Malformed)?;
            with(report, name.trim(), number.trim().parse().unwrap_or(f64::NAN))
        },
    )
}

fn of_json(text: &[u8]) -> Result<LoadReport, Malformed> {
    let Ok(Value::Object(message)) = serde_json::from_slice(text) else { return Err(Malformed) };
    message.iter().try_fold(LoadReport::new(), |report, (name, value)| {
        let name = match &**name {
            "cpuUtilization" => "cpu_utilization",
            "rpsFractional" => "rps_fractional",
            "applicationUtilization" => "application_utilization",
            name => name,
        };
        let number = match value {
            Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
            // The JSON of protocol buffers may have numbers in quotes.
            Value::String(number) => number.parse().unwrap_or(f64::NAN),
            _ => f64::NAN,
        };
        with(report, name, number)
    })
}

/// Adds a number by its name. Those that no weight is made of are passed over.
fn with(report: LoadReport, name: &str, number: f64) -> Result<LoadReport, Malformed> {
    let add = match name {
        "cpu_utilization" => LoadReport::with_cpu,
        "application_utilization" => LoadReport::with_application,
        "rps_fractional" => LoadReport::with_rate,
        "eps" => LoadReport::with_errors,
        _ => return Ok(report),
    };
    let number = number as f32;
    if number.is_finite() && number >= 0.0 { Ok(add(report, number)) } else { Err(Malformed) }
}
