use std::fmt;

/// A limit that cannot work: which field, what was given, and what would be right.
///
/// ```
/// use buttress_rate_limit::Limit;
/// use std::time::Duration;
///
/// let error = Limit::try_new(10, Duration::ZERO).unwrap_err();
/// assert_eq!(error.to_string(), "rate limit with `period` = 0ns: must be longer than zero");
/// assert_eq!(error.field(), "period");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rate limit with `{field}` = {value}: {rule}")]
pub struct LimitError {
    field: &'static str,
    value: String,
    rule: &'static str,
}

impl LimitError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Debug, rule: &'static str) -> Self {
        Self { field, value: format!("{value:?}"), rule }
    }

    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What the value must be.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}
