use std::io;
use std::sync::Arc;

use buttress_core::Name;

/// What is wrong with a file of endpoints.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Its name does not say how it is written.
    #[error("`{path}` must end in `.toml` or `.json`")]
    #[non_exhaustive]
    Format {
        /// The file.
        path: Name,
    },
    /// It cannot be read.
    #[error("`{path}` cannot be read")]
    #[non_exhaustive]
    Unreadable {
        /// The file.
        path: Name,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A line of it is not as it must be.
    #[error("`{path}`, line {line}: {rule}")]
    #[non_exhaustive]
    Line {
        /// The file.
        path: Name,
        /// The line, from 1.
        line: usize,
        /// Which field or value is wrong there, and what it must be.
        rule: String,
    },
    /// It lists no endpoints.
    #[error("`{path}` lists no endpoints: `accept_empty` is for where that is meant")]
    #[non_exhaustive]
    Empty {
        /// The file.
        path: Name,
    },
}
