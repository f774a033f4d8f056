//! The fields that tell what is left of a rate limit: which sets there are, and writing those that are wanted.

mod list;
mod text;
mod triple;

use std::cmp::Reverse;
use std::sync::Arc;

use buttress_core::{Clock, Quota};
use http::HeaderMap;

use self::list::Lists;

/// The fields that tell what is left of a rate limit, on answers and on refusals.
///
/// | set | fields | when more is there |
/// |---|---|---|
/// | [`IetfDraft11`](Self::IetfDraft11) | `RateLimit`, `RateLimit-Policy`, of all limits | in seconds |
/// | [`IetfDraft06`](Self::IetfDraft06) | `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` | in seconds |
/// | [`XRateLimitDelta`](Self::XRateLimitDelta) | `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset` | in seconds |
/// | [`XRateLimitEpoch`](Self::XRateLimitEpoch) | the same | a date, in seconds since 1970 |
///
/// The sets of three fields tell of one limit: of several, the one with the fewest units left, and of those the one
/// that takes longest to have more. Where the response has the fields already, as from a service behind this one, they
/// stay unless ours leave less.
///
/// Times are whole seconds, rounded up. Whose budget it is, is never told: there is no `pk` (the partition key of the
/// IETF's drafts), and of a key nothing reaches the fields, not even a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fields {
    /// None.
    None,
    /// `RateLimit: "burst";r=50;t=30` and `RateLimit-Policy: "burst";q=100;w=60`, the lists of
    /// [draft-ietf-httpapi-ratelimit-headers-11]: the default. It is a draft and may change; a later one gets a name
    /// of its own here.
    ///
    /// Of each limit there is the name, how many units are left (`r`), in how many seconds there are more (`t`), and
    /// that there are `q` units for `w` seconds. Each layer adds its limits to those that are there. A name is
    /// printable ASCII in the field: any other character of it becomes `?`. Numbers end at 15 digits.
    ///
    /// [draft-ietf-httpapi-ratelimit-headers-11]: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/
    #[default]
    IetfDraft11,
    /// `RateLimit-Limit: 100`, `RateLimit-Remaining: 50` and `RateLimit-Reset: 30`, as of
    /// [draft-ietf-httpapi-ratelimit-headers-06], the last with three fields. Its `RateLimit-Policy`, which it leaves
    /// to choice, is not written: later drafts use that name for something else.
    ///
    /// `RateLimit-Reset` counts seconds.
    ///
    /// [draft-ietf-httpapi-ratelimit-headers-06]: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-06
    IetfDraft06,
    /// `X-RateLimit-Limit: 100`, `X-RateLimit-Remaining: 50` and `X-RateLimit-Reset: 30`, where the last counts
    /// seconds, as [Envoy](https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/ratelimit/v3/rate_limit.proto)
    /// has it. No standard defines these fields.
    XRateLimitDelta,
    /// `X-RateLimit-Limit: 100`, `X-RateLimit-Remaining: 50` and `X-RateLimit-Reset: 1767225630`, where the last is a
    /// date in seconds since 1970-01-01T00:00:00Z, as
    /// [GitHub](https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api) has it. No standard
    /// defines these fields.
    ///
    /// The client's clock must agree with the server's, so take another set where there is a choice. The date is that
    /// of [`Respond::clock`](crate::reject::Respond::clock).
    XRateLimitEpoch,
}

/// The sets that are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    draft_11: Option<Arc<Lists>>,
    draft_06: bool,
    x: Option<Reset>,
}

/// What `X-RateLimit-Reset` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    Delta,
    Epoch,
}

impl Sets {
    pub(crate) fn of(fields: Fields) -> Self {
        Self { draft_11: None, draft_06: false, x: None }.and(fields)
    }

    pub(crate) fn and(mut self, fields: Fields) -> Self {
        match fields {
            Fields::None => {}
            Fields::IetfDraft11 => self.draft_11 = Some(Arc::default()),
            Fields::IetfDraft06 => self.draft_06 = true,
            Fields::XRateLimitDelta => {
                assert!(!matches!(self.x, Some(Reset::Epoch)), "{}", ONE_RESET);
                self.x = Some(Reset::Delta);
            }
            Fields::XRateLimitEpoch => {
                assert!(!matches!(self.x, Some(Reset::Delta)), "{}", ONE_RESET);
                self.x = Some(Reset::Epoch);
            }
        }
        self
    }

    /// Writes what is left of `quotas` into `headers`.
    pub(crate) fn write(&self, quotas: &[Quota], headers: &mut HeaderMap, clock: &Clock) {
        if let Some(lists) = &self.draft_11
            && !quotas.is_empty()
        {
            lists.write(quotas, headers);
        }
        if self.draft_06 || self.x.is_some() {
            self.write_narrowest(quotas, headers, clock);
        }
    }

    fn write_narrowest(&self, quotas: &[Quota], headers: &mut HeaderMap, clock: &Clock) {
        let narrowest = quotas.iter().min_by_key(|quota| (quota.remaining, Reverse(quota.reset)));
        let Some(narrowest) = narrowest else { return };
        if self.draft_06 {
            triple::write(&triple::DRAFT_06, narrowest, triple::delta(narrowest), headers);
        }
        if let Some(reset) = self.x {
            let reset = match reset {
                Reset::Delta => triple::delta(narrowest),
                Reset::Epoch => triple::epoch(narrowest, clock.wall()),
            };
            triple::write(&triple::X, narrowest, reset, headers);
        }
    }
}

const ONE_RESET: &str = "and_fields: `X-RateLimit-Reset` is one field and cannot be both; \
                         choose `XRateLimitDelta` or `XRateLimitEpoch`";
