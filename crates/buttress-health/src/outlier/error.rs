use std::fmt;

/// Settings that cannot work: which field, what was given, and what would be right.
///
/// ```
/// use buttress_core::Endpoints;
/// use buttress_health::OutlierDetection;
///
/// let detection = OutlierDetection::default().max_ejection_percent(0);
/// let error = detection.try_follow(&Endpoints::new([])?).unwrap_err();
/// assert_eq!(error.to_string(), "outlier detection with `max_ejection_percent` = 0: must be between 1 and 100 percent");
/// assert_eq!(error.field(), "max_ejection_percent");
/// # Ok::<(), buttress_core::EndpointsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outlier detection with `{field}` = {value}: {rule}")]
pub struct OutlierSettingsError {
    field: &'static str,
    value: String,
    rule: &'static str,
}

impl OutlierSettingsError {
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
