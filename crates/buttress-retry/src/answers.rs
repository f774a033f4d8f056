//! Which answers are worth another attempt.

#[cfg(feature = "http")]
use {
    crate::SettingError,
    buttress_core::{Cause, Classify, End, Outcome, OutcomeKind, Verdict},
    buttress_http::{classify, field},
    http::{Response, StatusCode},
};

/// Judges which answers are worth another attempt: those with one of a set of statuses, gRPC replies with one of a set of
/// codes, and errors. What `RetryLayer::default()` does; it needs the feature `http`.
///
/// | | default | why |
/// |---|---|---|
/// | statuses | 408, 429, 500, 502, 503, 504 | what may pass by itself; 501 and 505 do not |
/// | gRPC codes | 8 `RESOURCE_EXHAUSTED`, 14 `UNAVAILABLE` | the codes of 429 and 503 |
///
/// A gRPC code is seen where the reply is nothing but its head, as failures mostly are: a reply with messages is on its way
/// to the caller before its code is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// One bit for each status from 0.
    #[cfg(feature = "http")]
    statuses: [u64; 16],
    #[cfg(feature = "http")]
    codes: u32,
    #[cfg(not(feature = "http"))]
    _private: std::convert::Infallible,
}

#[cfg(feature = "http")]
impl Default for Answers {
    fn default() -> Self {
        Self { statuses: [0; 16], codes: 0 }
            .with_statuses("retry", [408_u16, 429, 500, 502, 503, 504])
            .with_codes("retry", [8, 14])
    }
}

#[cfg(feature = "http")]
impl Answers {
    #[track_caller]
    pub(crate) fn with_statuses<T>(
        mut self,
        layer: &'static str,
        statuses: impl IntoIterator<Item = T>,
    ) -> Self
    where
        T: TryInto<StatusCode> + std::fmt::Debug,
    {
        self.statuses = [0; 16];
        for status in statuses {
            let given = format!("{status:?}");
            let number = status.try_into().map_or(0, |status| status.as_u16());
            if number < 400 {
                let rule = "must be statuses of failure, 400 to 999";
                panic!("{}", SettingError::new(layer, "on_status", format_args!("{given}"), rule));
            }
            self.statuses[usize::from(number) / 64] |= 1 << (number % 64);
        }
        self
    }

    #[track_caller]
    pub(crate) fn with_codes<T>(mut self, layer: &'static str, codes: impl IntoIterator<Item = T>) -> Self
    where
        T: Into<i32>,
    {
        self.codes = 0;
        for code in codes {
            let code = code.into();
            if !(1..=16).contains(&code) {
                panic!("{}", SettingError::new(layer, "on_grpc", code, "must be codes of failure, 1 to 16"));
            }
            self.codes |= 1 << code;
        }
        self
    }

    fn has<B>(&self, response: &Response<B>) -> bool {
        let status = response.status().as_u16();
        if self.statuses[usize::from(status) / 64] & 1 << (status % 64) != 0 {
            return true;
        }
        let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
        code.is_some_and(|code: u32| code <= 16 && self.codes & 1 << code != 0)
    }
}

#[cfg(feature = "http")]
impl<B, E: Cause> Classify<Response<B>, E> for Answers {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        let response = match result {
            Ok(response) => response,
            Err(error) => return Verdict::Now(Outcome::of_error(error)),
        };
        let mut outcome = match classify::grpc().classify(Ok::<_, &E>(response)) {
            Verdict::Now(outcome) => outcome,
            // The code is in the trailers, and those come too late.
            Verdict::AtEnd => Outcome::success(),
        };
        if matches!(outcome.kind, OutcomeKind::Rejected(_)) {
            return Verdict::Now(outcome);
        }
        if !self.has(response) {
            return Verdict::Now(Outcome::success());
        }
        if !matches!(outcome.kind, OutcomeKind::Failure | OutcomeKind::Soft) {
            outcome.kind = OutcomeKind::Failure;
            outcome.retry_after = outcome.retry_after.or_else(|| field::retry_after(response.headers()));
        }
        Verdict::Now(outcome)
    }

    fn at_end(&self, _: &End<'_>) -> Outcome {
        Outcome::success()
    }

    fn streams(&self, response: &Response<B>) -> bool {
        field::is_streaming(response)
    }
}
