//! What a file of endpoints may say.

use std::collections::{BTreeMap, HashMap};

use buttress_core::{Endpoint, Name};
use serde::Deserialize;
use serde_json::value::RawValue;
use toml::Spanned;

use super::{FileError, Mark};

#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Toml,
    Json,
}

pub(super) struct Listed {
    pub(super) endpoint: Endpoint,
    pub(super) mark: Mark,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    endpoint: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    address: Option<String>,
    #[serde(default = "one")]
    weight: u32,
    zone: Option<String>,
    #[serde(default)]
    priority: u32,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    drain: bool,
    #[serde(default)]
    maintenance: bool,
}

const fn one() -> u32 {
    1
}

/// A line, and what is wrong there.
type Fault = (usize, String);

impl Format {
    pub(super) fn parse(self, path: &Name, content: &[u8]) -> Result<Vec<Listed>, FileError> {
        let lines = Lines::of(content);
        let entries = match str::from_utf8(content) {
            Ok(text) => match self {
                Self::Toml => toml(text, &lines),
                Self::Json => json(text, &lines),
            },
            Err(error) => Err((lines.at(error.valid_up_to()), "it must be UTF-8".to_owned())),
        };
        entries.and_then(check).map_err(|(line, rule)| FileError::Line { path: path.clone(), line, rule })
    }
}

fn toml(text: &str, lines: &Lines) -> Result<Vec<(usize, Entry)>, Fault> {
    let document: Document = toml::from_str(text)
        .map_err(|error| (lines.at(error.span().map_or(0, |span| span.start)), error.message().to_owned()))?;
    let entries = document.endpoint.into_iter();
    Ok(entries.map(|entry| (lines.at(entry.span().start), entry.into_inner())).collect())
}

fn json(text: &str, lines: &Lines) -> Result<Vec<(usize, Entry)>, Fault> {
    let fault = |before: usize, error: &serde_json::Error| {
        let message = error.to_string();
        let rule = message.rsplit_once(" at line ").map_or(&*message, |(rule, _)| rule);
        (before + error.line().max(1), rule.to_owned())
    };
    // Each is parsed by itself, so that its line is known.
    let entries: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| fault(0, &error))?;
    let parsed = entries.into_iter().map(|raw| {
        let line = lines.at(raw.get().as_ptr() as usize - text.as_ptr() as usize);
        let entry = serde_json::from_str(raw.get()).map_err(|error| fault(line - 1, &error))?;
        Ok((line, entry))
    });
    parsed.collect()
}

/// Where the lines of a text end.
struct Lines(Vec<usize>);

impl Lines {
    fn of(content: &[u8]) -> Self {
        Self(content.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of the byte at this place, from 1.
    fn at(&self, at: usize) -> usize {
        1 + self.0.partition_point(|&end| end < at)
    }
}

fn check(entries: Vec<(usize, Entry)>) -> Result<Vec<Listed>, Fault> {
    let mut lines: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    let mut list = Vec::with_capacity(entries.len());
    for (line, entry) in entries {
        if entry.name.is_empty() {
            return Err((line, "`name` must not be empty".to_owned()));
        }
        if entry.address.as_ref().is_some_and(String::is_empty) {
            return Err((line, "`address` must not be empty".to_owned()));
        }
        if let Some(first) = lines.insert(entry.name.clone(), line) {
            let name = entry.name;
            return Err((
                line,
                format!(
                    "`name` = {name:?}: the endpoint of line {first} is called so, each needs a name of its own"
                ),
            ));
        }
        list.push(entry.into_listed());
    }
    Ok(list)
}

impl Entry {
    fn into_listed(self) -> Listed {
        let mut endpoint = Endpoint::new(self.name).with_weight(self.weight).with_priority(self.priority);
        if let Some(address) = self.address {
            endpoint = endpoint.with_address(address);
        }
        if let Some(zone) = self.zone {
            endpoint = endpoint.with_zone(zone);
        }
        for (key, value) in self.metadata {
            endpoint = endpoint.with_metadata(key, value);
        }
        Listed { endpoint, mark: Mark { drain: self.drain, maintenance: self.maintenance } }
    }
}
