//! The one error a bad configuration gives: where it is, and what would be right.

use std::{fmt, io, ops::Range, path::Path};

/// `gateway.toml:12:8: what is wrong; what would be right`.
#[derive(Debug)]
pub(crate) struct Problem {
    place: String,
    message: String,
}

impl Problem {
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let message = format!(
            "cannot be read: {error}; name a gateway.toml that exists, or leave --config out to see the demo"
        );
        Self { place: path.display().to_string(), message }
    }

    /// The line of `text` that this byte is in.
    pub(crate) fn line(text: &str, at: usize) -> usize {
        text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
    }

    /// A problem at `span`, in bytes of `text`; without a span it concerns the whole file.
    pub(crate) fn at(path: &Path, text: &str, span: Option<Range<usize>>, message: String) -> Self {
        let start = span.map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let line = Self::line(text, start);
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        Self { place: format!("{}:{line}:{column}", path.display()), message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A parser's message may fold over lines; an error is one line.
        write!(f, "{}: {}", self.place, self.message.trim_end().replace('\n', "; "))
    }
}

impl std::error::Error for Problem {}
