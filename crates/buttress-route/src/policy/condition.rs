//! What a route asks of a request besides host, path and method.

use std::fmt;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde_json::Value;

use super::path::decoded;

/// What is known of the body as JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Json<'a> {
    /// It was not read yet.
    Unread,
    /// It is no JSON, or too long, or nobody reads it.
    None,
    Is(&'a Value),
}

/// Whether a request meets the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meets {
    Yes,
    No,
    /// Nothing but the body can tell.
    AskBody,
}

/// All of these are to be met. Without a value, it is enough that the field is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) headers: Vec<(HeaderName, Option<HeaderValue>)>,
    pub(crate) query: Vec<(String, Option<String>)>,
    pub(crate) cookies: Vec<(String, Option<String>)>,
    pub(crate) json: Vec<(String, Option<Value>)>,
}

impl Conditions {
    pub(crate) const fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty() && self.cookies.is_empty() && self.json.is_empty()
    }

    /// Brings the conditions into an order of their own. `Err` names one that is given twice.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        let twice = self.headers.windows(2).find(|pair| pair[0].0 == pair[1].0);
        if let Some(pair) = twice {
            return Err(format!("header `{}`", pair[0].0));
        }
        settle(&mut self.query, "query parameter")?;
        settle(&mut self.cookies, "cookie")?;
        settle(&mut self.json, "JSON field")
    }

    /// How specific they are: more is more.
    pub(crate) fn weight(&self) -> [usize; 5] {
        let exact = self.headers.iter().filter(|(_, value)| value.is_some()).count()
            + self.query.iter().filter(|(_, value)| value.is_some()).count()
            + self.cookies.iter().filter(|(_, value)| value.is_some()).count()
            + self.json.iter().filter(|(_, value)| value.is_some()).count();
        [self.headers.len(), self.query.len(), self.cookies.len(), self.json.len(), exact]
    }

    pub(crate) fn meets(&self, uri: &Uri, headers: &HeaderMap, body: Json<'_>) -> Meets {
        let head = self.headers.iter().all(|(name, value)| {
            headers.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        }) && self.query.iter().all(|(name, value)| query(uri, name, value.as_deref()))
            && self.cookies.iter().all(|(name, value)| cookie(headers, name, value.as_deref()));
        match body {
            _ if !head => Meets::No,
            _ if self.json.is_empty() => Meets::Yes,
            Json::Unread => Meets::AskBody,
            Json::None => Meets::No,
            Json::Is(body) => {
                let all = self.json.iter().all(|(pointer, value)| {
                    body.pointer(pointer)
                        .is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
                });
                if all { Meets::Yes } else { Meets::No }
            }
        }
    }
}

fn settle<V>(conditions: &mut [(String, V)], kind: &str) -> Result<(), String> {
    conditions.sort_by(|a, b| a.0.cmp(&b.0));
    match conditions.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(format!("{kind} `{}`", pair[0].0)),
        None => Ok(()),
    }
}

/// The first parameter of that name counts, as it reads decoded.
fn query(uri: &Uri, name: &str, value: Option<&str>) -> bool {
    let Some(query) = uri.query() else { return false };
    let pairs = query.as_bytes().split(|&byte| byte == b'&').map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=');
        (&pair[..equals.unwrap_or(pair.len())], equals.map_or(&[][..], |at| &pair[at + 1..]))
    });
    let mut of_name = pairs.filter(|(found, _)| reads(found, name)).map(|(_, found)| found);
    of_name.next().is_some_and(|found| value.is_none_or(|value| reads(found, value)))
}

/// Whether a part of a query reads `text`: percent-encoded, with a plus for a space.
fn reads(part: &[u8], text: &str) -> bool {
    // A plus that is meant is encoded, so that it is told from one that is a space before it is decoded.
    let mut words = part.split(|&byte| byte == b'+');
    let first = words.next().unwrap_or_default();
    decoded(first).chain(words.flat_map(|word| std::iter::once(b' ').chain(decoded(word)))).eq(text.bytes())
}

/// The first cookie of that name counts, as it was sent (RFC 6265, section 4.2). HTTP/2 may split the field.
fn cookie(headers: &HeaderMap, name: &str, value: Option<&str>) -> bool {
    let fields =
        headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    let pairs = fields.map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|&byte| byte == b'=');
        (&pair[..equals.unwrap_or(0)], equals.map_or(&[][..], |at| &pair[at + 1..]))
    });
    let mut of_name = pairs.filter(|(found, _)| *found == name.as_bytes()).map(|(_, found)| found);
    of_name.next().is_some_and(|found| value.is_none_or(|value| value.as_bytes() == found))
}

/// In one way only, so that it tells conditions apart.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.headers {
            show(f, "header", name.as_str(), value.as_ref().map(|value| value as &dyn fmt::Debug))?;
        }
        for (name, value) in &self.query {
            show(f, "query", name, value.as_ref().map(|value| value as &dyn fmt::Debug))?;
        }
        for (name, value) in &self.cookies {
            show(f, "cookie", name, value.as_ref().map(|value| value as &dyn fmt::Debug))?;
        }
        for (pointer, value) in &self.json {
            let text = value.as_ref().map(Value::to_string);
            show(f, "json", pointer, text.as_ref().map(|value| value as &dyn fmt::Debug))?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, kind: &str, name: &str, value: Option<&dyn fmt::Debug>) -> fmt::Result {
    match value {
        Some(value) => write!(f, " [{kind} {name:?} = {value:?}]"),
        None => write!(f, " [{kind} {name:?}]"),
    }
}

/// What of a request's head is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a http::Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
}
