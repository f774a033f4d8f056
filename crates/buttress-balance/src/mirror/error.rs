use std::fmt;

/// Why a setting of a [`MirrorLayer`](crate::MirrorLayer) is refused: what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mirror with `{field}` = {value}: {rule}")]
pub struct MirrorError {
    field: &'static str,
    value: String,
    rule: &'static str,
}

impl MirrorError {
    pub(super) fn new(field: &'static str, value: impl fmt::Debug, rule: &'static str) -> Self {
        Self { field, value: format!("{value:?}"), rule }
    }

    /// The setting.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What the setting has to be.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}
