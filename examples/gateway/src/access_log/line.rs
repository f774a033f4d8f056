//! A request as a line of text.
//!
//! What a client has sent is in there, so it is written as JSON writes strings, and nothing but visible ASCII leaves as it
//! is: a line stays one line, a field ends where it ends, and a terminal that shows the log obeys nobody.

use std::{
    io::{self, Write},
    time::Duration,
};

use http::Method;
use humantime::format_rfc3339_millis;
use serde::Serialize;
use serde_json::ser::Formatter;

use super::{Call, Ended};

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// An object of JSON.
    Json,
    /// `name=value name="value with spaces"`.
    Logfmt,
}

impl Format {
    /// Adds a line to `text`.
    pub(super) fn write(self, call: &Call, text: &mut Vec<u8>) {
        let mut line = Line { format: self, text, first: true };
        let known = call.known();
        line.text("time", &format_rfc3339_millis(call.begun).to_string());
        line.maybe("client", call.client.map(|client| client.to_string()).as_deref());
        line.maybe("method", call.method.as_ref().map(Method::as_str));
        line.maybe("host", call.host());
        line.maybe("path", call.path());
        line.text("protocol", call.protocol());
        line.maybe("route", known.route.as_deref());
        if let Some(status) = call.status() {
            line.number("status", u64::from(status));
        }
        line.number("bytes_in", call.bytes_in());
        line.number("bytes_out", call.bytes_out());
        if let Some(head) = call.head() {
            line.millis("head_ms", head);
        }
        line.millis("total_ms", call.total());
        line.text(
            "end",
            match call.end() {
                Ended::Complete => "complete",
                Ended::Failed => "failed",
                Ended::Aborted => "aborted",
            },
        );
        line.maybe("upstream", known.endpoint.as_deref());
        line.number("attempts", u64::from(known.attempts));
        line.maybe("refused", known.refused.as_deref());
        line.maybe("request_id", known.request_id.as_deref());
        line.maybe("tls", known.tls);
        line.end();
    }
}

struct Line<'a> {
    format: Format,
    text: &'a mut Vec<u8>,
    first: bool,
}

impl Line<'_> {
    /// The names are ours, and need no care.
    fn name(&mut self, name: &str) {
        let (begin, next, is) = match self.format {
            Format::Json => ("{\"", ",\"", "\":"),
            Format::Logfmt => ("", " ", "="),
        };
        let before = if std::mem::take(&mut self.first) { begin } else { next };
        for part in [before, name, is] {
            self.text.extend_from_slice(part.as_bytes());
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"=\\".contains(&byte);
        if self.format == Format::Logfmt && !value.is_empty() && value.bytes().all(plain) {
            self.text.extend_from_slice(value.as_bytes());
        } else {
            let mut json = serde_json::Serializer::with_formatter(&mut *self.text, Ascii);
            value.serialize(&mut json).expect("a text can be written into memory");
        }
    }

    fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        write!(self.text, "{value}").expect("memory can be written");
    }

    /// To the microsecond.
    fn millis(&mut self, name: &str, value: Duration) {
        self.name(name);
        let micros = value.as_micros();
        write!(self.text, "{}.{:03}", micros / 1000, micros % 1000).expect("memory can be written");
    }

    fn end(self) {
        let end: &[u8] = if self.format == Format::Json { b"}\n" } else { b"\n" };
        self.text.extend_from_slice(end);
    }
}

/// JSON of visible ASCII alone: besides what JSON itself escapes, DEL and all that is not ASCII is written `\uXXXX`.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !c.is_ascii() || c == '\x7f') {
            let (plain, from) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let other = from.chars().next().expect("found a moment ago");
            for unit in other.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &from[other.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}
