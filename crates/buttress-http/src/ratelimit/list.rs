//! `RateLimit` and `RateLimit-Policy`, draft-ietf-httpapi-ratelimit-headers-11.

use buttress_core::Quota;
use http::{HeaderMap, HeaderName};

use super::text::{self, Pen};
use crate::field::whole_seconds;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds a line to each of the two fields. Several lines are one list, so layers add up.
pub(super) fn write(quotas: &[Quota], headers: &mut HeaderMap) {
    let [limit, policy] = text::values(|pen| {
        list(pen, quotas, |pen, quota| {
            pen.text(b";r=");
            pen.number(quota.remaining);
            pen.text(b";t=");
            pen.number(whole_seconds(quota.reset));
        });
        let end_of_first = pen.at();
        list(pen, quotas, |pen, quota| {
            pen.text(b";q=");
            pen.number(quota.limit);
            pen.text(b";w=");
            // The draft knows no window of 0.
            pen.number(whole_seconds(quota.window).max(1));
        });
        [end_of_first, pen.at()]
    });
    headers.append(RATE_LIMIT, limit);
    headers.append(RATE_LIMIT_POLICY, policy);
}

/// Writes one member for each quota: its name, and the parameters that follow it.
#[inline]
fn list(pen: &mut Pen<'_>, quotas: &[Quota], parameters: impl Fn(&mut Pen<'_>, &Quota)) {
    for (at, quota) in quotas.iter().enumerate() {
        if at > 0 {
            pen.text(b", ");
        }
        pen.string(&quota.name);
        parameters(pen, quota);
    }
}
