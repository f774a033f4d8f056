use std::error::Error;
use std::sync::Arc;

use buttress_core::Name;

/// What is wrong with a name, or with what DNS says of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// It is not the name of something that DNS knows.
    #[error("`{name}` cannot be looked up: {rule}")]
    #[non_exhaustive]
    BadName {
        /// What was given.
        name: Name,
        /// What it has to be.
        rule: &'static str,
    },
    /// The system does not say which servers to ask.
    #[error("the system's settings of DNS cannot be read")]
    #[non_exhaustive]
    Settings {
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// DNS does not know the name (NXDOMAIN).
    #[error("there is no name `{name}` for {records} records")]
    #[non_exhaustive]
    NoName {
        /// The name.
        name: Name,
        /// What was asked for.
        records: &'static str,
    },
    /// DNS knows the name, and no records of the kind asked for.
    #[error("`{name}` has no {records} records")]
    #[non_exhaustive]
    NoRecords {
        /// The name.
        name: Name,
        /// What was asked for.
        records: &'static str,
    },
    /// There was no answer, or none that says something.
    #[error("{records} records of `{name}` could not be had")]
    #[non_exhaustive]
    Unanswered {
        /// The name.
        name: Name,
        /// What was asked for.
        records: &'static str,
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
}
