use std::fmt;

/// A setting that cannot work: of what, which field, what was given, and what would be right.
///
/// ```
/// use buttress_retry::Budget;
///
/// let error = Budget::try_ratio(f64::NAN).unwrap_err();
/// assert_eq!(error.to_string(), "retry budget with `ratio` = NaN: must be above 0 and at most 1");
/// assert_eq!(error.field(), "ratio");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject} with `{field}` = {value}: {rule}")]
pub struct SettingError {
    subject: &'static str,
    field: &'static str,
    value: String,
    rule: &'static str,
}

impl SettingError {
    pub(crate) fn new(
        subject: &'static str,
        field: &'static str,
        value: impl fmt::Debug,
        rule: &'static str,
    ) -> Self {
        Self { subject, field, value: format!("{value:?}"), rule }
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
