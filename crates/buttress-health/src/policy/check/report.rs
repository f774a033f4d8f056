use std::fmt;
use std::io;

/// What one probe has found.
///
/// A closure that probes returns one, or a `bool`, or a `Result`: `Ok` is a pass.
///
/// ```
/// use buttress_health::{Finding, ProbeReport};
///
/// let report = ProbeReport::pass().weight_percent(50);
/// assert_eq!(report.finding, Finding::Pass);
/// assert_eq!(ProbeReport::from(true), ProbeReport::pass());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeReport {
    /// Whether the endpoint serves.
    pub finding: Finding,
    /// Whether this decides alone, whatever the thresholds: the endpoint itself says so.
    pub at_once: bool,
    /// The share of its weight that its agent asks for, in percent; `None` leaves it as it is.
    pub weight_percent: Option<u8>,
    /// What its agent asks operators for; `None` leaves that as it is.
    pub admin: Option<Admin>,
}

/// Whether an endpoint serves, as one probe sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// It serves.
    Pass,
    /// It serves, and asks that others be preferred.
    Degraded,
    /// It does not serve.
    Fail(Failure),
}

/// What an agent asks for, in the words of HAProxy's agent check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Admin {
    /// `ready`: ends draining and maintenance, an operator's as well.
    Ready,
    /// `drain`: no new calls but those that are bound to it.
    Drain,
    /// `maint`: no calls at all.
    Maintain,
}

/// Why a probe has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// No answer came in time.
    Timeout,
    /// Its address is none that can be connected to.
    Address,
    /// It could not be connected to, or the connection broke.
    Io(io::ErrorKind),
    /// It was not asked: this process, or its machine, has no file left to connect with. That says nothing of the endpoint,
    /// whose state and count stay as they are.
    OutOfFiles,
    /// The TLS handshake failed.
    Tls,
    /// It closed the connection before it had answered.
    Closed,
    /// It answered with what is no answer in the protocol of the probe, or is longer than a probe reads.
    Garbage,
    /// It answered with this HTTP status.
    Status(u16),
    /// It asks to be taken out, by the field `x-envoy-immediate-health-check-fail`.
    AsksToFail,
    /// Another service answers at its address.
    WrongService,
    /// It did not send the bytes that are expected.
    Unexpected,
    /// Its gRPC health service says that it does not serve.
    NotServing,
    /// Its gRPC health service answered with this code.
    Grpc(u32),
    /// Its agent says `down`, `stopped` or `fail`.
    Down,
    /// The probe panicked.
    Panicked,
    /// What a probe of your own says, in words.
    Other(&'static str),
}

impl ProbeReport {
    const fn new(finding: Finding) -> Self {
        Self { finding, at_once: false, weight_percent: None, admin: None }
    }

    /// It serves.
    #[must_use]
    pub const fn pass() -> Self {
        Self::new(Finding::Pass)
    }

    /// It serves, and asks that others be preferred.
    #[must_use]
    pub const fn degraded() -> Self {
        Self::new(Finding::Degraded)
    }

    /// It does not serve, for this reason.
    #[must_use]
    pub const fn fail(failure: Failure) -> Self {
        Self::new(Finding::Fail(failure))
    }

    /// Decides alone, whatever the thresholds. Flap damping holds all the same.
    #[must_use]
    pub const fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    /// Asks for this share of its weight, in percent: 0 is no new traffic, more than 100 is more than its own.
    #[must_use]
    pub const fn weight_percent(mut self, percent: u8) -> Self {
        self.weight_percent = Some(percent);
        self
    }

    /// Asks for this.
    #[must_use]
    pub const fn admin(mut self, admin: Admin) -> Self {
        self.admin = Some(admin);
        self
    }

    /// Whether it serves, degraded or not.
    #[must_use]
    pub const fn is_pass(&self) -> bool {
        !matches!(self.finding, Finding::Fail(_))
    }
}

impl From<bool> for ProbeReport {
    fn from(serves: bool) -> Self {
        if serves { Self::pass() } else { Self::fail(Failure::Other("the probe says no")) }
    }
}

impl<T, E> From<Result<T, E>> for ProbeReport {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::pass(),
            Err(_) => Self::fail(Failure::Other("the probe failed")),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("serves"),
            Self::Degraded => f.write_str("serves, degraded"),
            Self::Fail(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Address => f.write_str("its address is not `host:port`"),
            Self::Io(kind) => kind.fmt(f),
            Self::OutOfFiles => f.write_str("it was not asked, as too many files are open here"),
            Self::Tls => f.write_str("the TLS handshake failed"),
            Self::Closed => f.write_str("the connection was closed without an answer"),
            Self::Garbage => f.write_str("what it answered is not of the protocol, or too long"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::AsksToFail => f.write_str("it asks to be taken out"),
            Self::WrongService => f.write_str("another service answers at its address"),
            Self::Unexpected => f.write_str("it did not send what is expected"),
            Self::NotServing => f.write_str("it says that it does not serve"),
            Self::Grpc(code) => write!(f, "gRPC status {code}"),
            Self::Down => f.write_str("its agent says that it is down"),
            Self::Panicked => f.write_str("the probe panicked"),
            Self::Other(why) => f.write_str(why),
        }
    }
}
