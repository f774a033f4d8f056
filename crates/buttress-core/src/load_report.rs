use crate::Outcome;

/// What a server says of its own load, as in an ORCA report (`xds.data.orca.v3.OrcaLoadReport`): the parts that a weight is made
/// of.
///
/// Each number is finite and not negative; any other counts as 0, which is what an absent one is. Seven digits are kept.
///
/// ```
/// use buttress_core::{LoadReport, Outcome};
///
/// let report = LoadReport::new().with_cpu(0.25).with_rate(100.0);
/// assert_eq!(report.utilization(), 0.25);
/// assert_eq!(report.with_application(0.5).utilization(), 0.5);
/// assert_eq!(Outcome::success().with_load(report).load, Some(report));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    cpu: f32,
    application: f32,
    rate: f32,
    errors: f32,
}

/// No number is a NaN.
impl Eq for LoadReport {}

impl LoadReport {
    /// All at 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { cpu: 0.0, application: 0.0, rate: 0.0, errors: 0.0 }
    }

    /// The share of the processors that is in use (`cpu_utilization`): 1.0 is all that the server should use, and more may be told.
    #[must_use]
    pub const fn with_cpu(mut self, share: f32) -> Self {
        self.cpu = sound(share);
        self
    }

    /// The share of whatever the application itself takes for its capacity that is in use (`application_utilization`).
    #[must_use]
    pub const fn with_application(mut self, share: f32) -> Self {
        self.application = sound(share);
        self
    }

    /// How many calls a second the server answers (`rps_fractional`).
    #[must_use]
    pub const fn with_rate(mut self, calls: f32) -> Self {
        self.rate = sound(calls);
        self
    }

    /// How many of these fail, a second (`eps`).
    #[must_use]
    pub const fn with_errors(mut self, calls: f32) -> Self {
        self.errors = sound(calls);
        self
    }

    /// The share of the server's capacity that is in use: the application's own, and where it tells none, that of the processors.
    #[must_use]
    pub const fn utilization(&self) -> f32 {
        if self.application > 0.0 { self.application } else { self.cpu }
    }

    /// Calls a second.
    #[must_use]
    pub const fn rate(&self) -> f32 {
        self.rate
    }

    /// Failed calls a second.
    #[must_use]
    pub const fn errors(&self) -> f32 {
        self.errors
    }
}

const fn sound(number: f32) -> f32 {
    if number.is_finite() && number > 0.0 { number } else { 0.0 }
}

impl Outcome {
    /// Adds what the server said of its load.
    #[must_use]
    pub const fn with_load(mut self, report: LoadReport) -> Self {
        self.load = Some(report);
        self
    }
}
