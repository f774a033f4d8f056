/// Why a [`StickyLayer`](crate::StickyLayer) is refused when it is built: what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StickyError {
    /// The secret is so short that it could be guessed.
    #[error("sticky cookie with a key of {given} bytes: must be {least} at least, from a random source")]
    ShortKey {
        /// How many bytes are given.
        given: usize,
        /// How many would do.
        least: usize,
    },
    /// A part of the cookie that browsers would not take.
    #[error("sticky cookie with `{field}` = {value:?}: {rule}")]
    Attribute {
        /// The part.
        field: &'static str,
        /// What is given.
        value: String,
        /// What would do.
        rule: &'static str,
    },
}

impl StickyError {
    pub(crate) fn attribute(field: &'static str, value: impl Into<String>, rule: &'static str) -> Self {
        Self::Attribute { field, value: value.into(), rule }
    }
}
