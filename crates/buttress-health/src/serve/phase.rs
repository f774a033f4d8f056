/// Where a service is in its life. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// It is not yet able to serve: `/startupz` and `/readyz` are 503.
    Starting,
    /// It serves, as far as its checks pass.
    Running,
    /// It shuts down: `/readyz` is 503, and calls that still come are served.
    Stopping,
}

impl Phase {
    /// The phase in words, as it stands in the body of an answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}
