//! Templates: `/users/{id}`, `/files/{*rest}`, `{{` and `}}` for the braces themselves.

use super::path::decoded;
use super::tree::{LONGEST_LITERAL, MOST_PARAMETERS, MOST_SEGMENTS};

/// A part of a template as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Param(String),
    Rest(String),
}

/// Takes `text` apart at its braces.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece>, &'static str> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let after = &rest[next.len_utf8()..];
        match next {
            '{' | '}' if after.starts_with(next) => {
                literal.push(next);
                rest = &after[1..];
            }
            '{' => {
                let end = after.find('}').ok_or("a parameter ends with `}`; `{{` is the brace itself")?;
                let (star, name) = match after[..end].strip_prefix('*') {
                    Some(name) => (true, name),
                    None => (false, &after[..end]),
                };
                let good = !name.is_empty()
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
                if !good {
                    return Err("the name of a parameter is made of letters, digits, `_`, `-` and `.`");
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(if star { Piece::Rest(name.to_owned()) } else { Piece::Param(name.to_owned()) });
                rest = &after[end + 1..];
            }
            '}' => return Err("a `}` has no `{`; `}}` is the brace itself"),
            _ => {
                literal.push(next);
                rest = after;
            }
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

/// A segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Decoded bytes.
    Literal(Vec<u8>),
    Param,
    Rest,
}

/// A path as a route has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) names: Box<[Box<str>]>,
}

impl Template {
    pub(crate) fn parse(path: &str) -> Result<Self, &'static str> {
        let Some(inner) = path.strip_prefix('/') else {
            return Err("it begins with `/`");
        };
        if path.contains(['?', '#']) {
            return Err("it is a path alone: conditions on the query have a method of their own");
        }
        let count = inner.split('/').count();
        if count > MOST_SEGMENTS {
            return Err("it has 128 segments at most");
        }
        let mut segments = Vec::with_capacity(count);
        let mut names: Vec<Box<str>> = Vec::new();
        for (at, text) in inner.split('/').enumerate() {
            let last = at + 1 == count;
            let segment = match &pieces(text)?[..] {
                [] if last => Segment::Literal(Vec::new()),
                [] => return Err("only its last segment may be empty"),
                [Piece::Text(text)] => Segment::Literal(literal(text)?),
                [Piece::Param(name)] => {
                    names.push(name.as_str().into());
                    Segment::Param
                }
                [Piece::Rest(name)] if last => {
                    names.push(name.as_str().into());
                    Segment::Rest
                }
                [Piece::Rest(_)] => return Err("`{*name}` is its last segment"),
                _ => return Err("a parameter is a whole segment"),
            };
            segments.push(segment);
        }
        if names.len() > MOST_PARAMETERS {
            return Err("it has 16 parameters at most");
        }
        if names.iter().enumerate().any(|(at, name)| names[..at].contains(name)) {
            return Err("each parameter has a name of its own");
        }
        Ok(Self { segments, names: names.into() })
    }
}

fn literal(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes: Vec<u8> = decoded(text.as_bytes()).collect();
    if bytes.len() > LONGEST_LITERAL {
        return Err("a literal segment has 255 bytes at most");
    }
    if matches!(bytes[..], [b'.'] | [b'.', b'.']) {
        return Err("a segment of dots has no place in a template");
    }
    Ok(bytes)
}
