//! What an endpoint says.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::readiness::Readiness;
use super::report::{DependencyReport, Report, TrafficReport};
use crate::{DependencyState, Phase};

/// The questions that a [`HealthEndpoints`](crate::HealthEndpoints) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthPage {
    /// Whether the process is to be left alone: 200 for as long as it can answer at all. It never looks at dependencies, as
    /// a restart does not mend them.
    Live,
    /// Whether requests are to be sent here.
    Ready,
    /// Whether the service has started, so that from now on the other two are to be asked.
    Startup,
}

/// How an answer is written, as its query asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Json,
    /// A line for each check, as Kubernetes' own endpoints write it.
    Lines,
}

impl Style {
    pub(crate) fn of_query(query: Option<&str>) -> Self {
        let asks = |part: &str| part == "verbose" || part.starts_with("verbose=");
        if query.is_some_and(|query| query.split('&').any(asks)) { Self::Lines } else { Self::Json }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "text/plain; charset=utf-8",
        }
    }
}

/// An answer before it is a response.
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) style: Style,
    pub(crate) text: Bytes,
}

impl HealthPage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Startup => "startupz",
        }
    }

    /// What a page says that knows its answer by the phase alone.
    pub(crate) fn of_phase(self, readiness: &Readiness, style: Style) -> Said {
        let phase = readiness.phase();
        let passes = self == Self::Live || phase != Phase::Starting;
        let status = match (self, passes) {
            (Self::Live, _) => "alive",
            (_, true) => "started",
            (_, false) => "starting",
        };
        let text = match style {
            Style::Json => json!({ "status": status, "phase": phase.as_str() }).to_string(),
            Style::Lines => self.lines(phase, passes, String::new()),
        };
        Said { status: code(passes), style, text: text.into() }
    }

    /// What the page on readiness says.
    pub(crate) fn of_report(report: &Report, errors: bool, style: Style) -> Said {
        let passes = report.status.is_ready();
        let text = match style {
            Style::Json => {
                let mut checks: Map<_, _> = report
                    .dependencies
                    .iter()
                    .map(|found| (found.name.to_string(), of_dependency(found, errors)))
                    .collect();
                checks.extend(report.traffic.as_ref().map(|found| (TRAFFIC.to_owned(), of_traffic(found))));
                let (status, phase) = (report.status.as_str(), report.phase.as_str());
                json!({ "status": status, "phase": phase, "checks": checks }).to_string()
            }
            Style::Lines => {
                let mut lines = String::new();
                for found in &report.dependencies {
                    let why = found.error.as_deref().filter(|_| errors).unwrap_or("reason withheld");
                    let why =
                        if found.state == DependencyState::Failing { why } else { found.state.as_str() };
                    line(&mut lines, &found.name, found.critical, (!found.state.is_passing()).then_some(why));
                }
                if let Some(found) = &report.traffic {
                    let why = format!("{} of {} calls failed", found.failed, found.calls);
                    line(&mut lines, TRAFFIC, found.critical, found.failing.then_some(&why));
                }
                Self::Ready.lines(report.phase, passes, lines)
            }
        };
        Said { status: code(passes), style, text: text.into() }
    }

    fn lines(self, phase: Phase, passes: bool, checks: String) -> String {
        let mut lines = checks;
        let phase_passes = match self {
            Self::Live => true,
            Self::Ready => phase == Phase::Running,
            Self::Startup => phase != Phase::Starting,
        };
        line(&mut lines, "phase", true, (!phase_passes).then_some(phase.as_str()));
        lines + self.as_str() + if passes { " check passed\n" } else { " check failed\n" }
    }
}

/// How the service's own calls go, among the checks.
const TRAFFIC: &str = "traffic";

const fn code(passes: bool) -> StatusCode {
    if passes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn of_dependency(found: &DependencyReport, errors: bool) -> Value {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut value = json!({
        "state": found.state.as_str(),
        "critical": found.critical,
        "age_ms": millis(found.age),
        "took_ms": millis(found.took),
    });
    if let Some(error) = found.error.as_deref().filter(|_| errors) {
        value["error"] = error.into();
    }
    value
}

fn of_traffic(found: &TrafficReport) -> Value {
    json!({
        "state": if found.failing { "failing" } else { "passing" },
        "critical": found.critical,
        "calls": found.calls,
        "failed": found.failed,
    })
}

fn line(lines: &mut String, name: &str, critical: bool, why: Option<&str>) {
    let optional = if critical { "" } else { " (optional)" };
    lines.push_str(&match why {
        None => format!("[+]{name} ok\n"),
        Some(why) => format!("[-]{name}{optional} failed: {why}\n"),
    });
}
