//! `RateLimit` and `RateLimit-Policy`, draft-ietf-httpapi-ratelimit-headers-11.

use std::sync::OnceLock;
use std::time::Duration;

use buttress_core::{Name, Quota};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::text::{quoted, value};
use crate::field::whole_seconds;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What does not change from answer to answer, written once for the first lists of limits that are told. There is one
/// for each plan; where there are more plans than places, the others are written each time.
#[derive(Debug, Default)]
pub(crate) struct Lists([OnceLock<List>; 8]);

/// One or several limits that are told together.
#[derive(Debug)]
struct List {
    members: Box<[Member]>,
    policy: HeaderValue,
}

#[derive(Debug)]
struct Member {
    name: Name,
    limit: u64,
    window: Duration,
    /// `"name";r=`, and what parts it from the member before.
    head: Box<[u8]>,
}

impl Lists {
    /// Adds a line to each of the two fields. Several lines are one list, so layers add up.
    pub(super) fn write(&self, quotas: &[Quota], headers: &mut HeaderMap) {
        for place in &self.0 {
            let list = place.get_or_init(|| List::of(quotas));
            if list.is_of(quotas) {
                return list.write(quotas, headers);
            }
        }
        List::of(quotas).write(quotas, headers);
    }
}

impl List {
    #[cold]
    fn of(quotas: &[Quota]) -> Self {
        let members: Box<[_]> = quotas
            .iter()
            .enumerate()
            .map(|(at, &Quota { ref name, limit, window, .. })| {
                let comma: &[u8] = if at > 0 { b", " } else { b"" };
                let head = [comma, &quoted(name), b";r="].concat().into();
                Member { name: name.clone(), limit, window, head }
            })
            .collect();
        let policy = value(|pen| {
            for (at, member) in members.iter().enumerate().rev() {
                // The draft knows no window of 0.
                pen.number(whole_seconds(member.window).max(1));
                pen.text(b";w=");
                pen.number(member.limit);
                pen.text(b";q=");
                pen.text(&quoted(&member.name));
                pen.text(if at > 0 { b", " } else { b"" });
            }
        });
        Self { members, policy }
    }

    #[inline]
    fn is_of(&self, quotas: &[Quota]) -> bool {
        self.members.len() == quotas.len()
            && self.members.iter().zip(quotas).all(|(member, quota)| {
                member.limit == quota.limit && member.window == quota.window && member.name == quota.name
            })
    }

    #[inline]
    fn write(&self, quotas: &[Quota], headers: &mut HeaderMap) {
        let left = value(|pen| {
            for (member, quota) in self.members.iter().zip(quotas).rev() {
                pen.number(whole_seconds(quota.reset));
                pen.text(b";t=");
                pen.number(quota.remaining);
                pen.text(&member.head);
            }
        });
        headers.append(RATE_LIMIT, left);
        headers.append(RATE_LIMIT_POLICY, self.policy.clone());
    }
}
