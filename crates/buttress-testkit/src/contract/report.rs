use std::fmt;

use super::Point;

/// What the suite found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// What is wrong. Empty when the layer keeps the contract.
    pub failures: Vec<Failure>,
    /// Points that were not checked, each with the reason.
    pub skipped: Vec<(Point, String)>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether something is wrong about `point`.
    #[must_use]
    pub fn breaks(&self, point: Point) -> bool {
        self.failures.iter().any(|failure| failure.point == point)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "broken: {failure}")?;
        }
        for (point, reason) in &self.skipped {
            writeln!(f, "not checked: point {point}: {reason}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The point that is broken.
    pub point: Point,
    /// What the suite was doing.
    pub during: String,
    /// One sentence on what is wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "point {}: {}: {}", self.point, self.during, self.what)
    }
}
