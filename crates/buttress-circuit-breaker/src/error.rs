use std::fmt;

/// Settings that cannot work: which field, what was given, and what would be right.
///
/// ```
/// use buttress_circuit_breaker::Settings;
///
/// let error = Settings::default().failure_rate(1.5).rules().unwrap_err();
/// assert_eq!(error.to_string(), "circuit breaker with `failure_rate` = 1.5: must be above 0 and at most 1");
/// assert_eq!(error.field(), "failure_rate");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("circuit breaker with `{field}` = {value}: {rule}")]
pub struct SettingsError {
    field: &'static str,
    value: String,
    rule: &'static str,
}

impl SettingsError {
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
