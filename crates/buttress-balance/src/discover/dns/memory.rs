//! The last good answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;

use super::DnsError;
use super::lookup::{Found, Target};

/// How long "there are none" is believed where nothing says it.
const NEGATIVE_TTL: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Memory {
    targets: Vec<Target>,
    addresses: HashMap<(String, RecordType), Vec<IpAddr>>,
}

/// What was learned in one round besides the records.
#[derive(Default)]
pub(super) struct Round {
    /// Whether it is no fault that there is nothing.
    pub(super) accepts_empty: bool,
    /// The least of the answers' times to live.
    pub(super) ttl: Option<Duration>,
    pub(super) problems: Vec<DnsError>,
}

impl Round {
    fn lasts(&mut self, ttl: Duration) {
        self.ttl = Some(self.ttl.map_or(ttl, |least| least.min(ttl)));
    }
}

impl Memory {
    /// The targets as they are known now.
    pub(super) fn targets(&mut self, found: Found<Target>, round: &mut Round) -> Vec<Target> {
        match found {
            Found::Some { records, ttl } => {
                round.lasts(ttl);
                self.targets = records;
            }
            Found::None { ttl, .. } if round.accepts_empty => {
                round.lasts(ttl.unwrap_or(NEGATIVE_TTL));
                self.targets.clear();
            }
            Found::None { error, .. } | Found::Failed(error) => round.problems.push(error),
        }
        self.targets.clone()
    }

    /// Takes an answer before the rest of its round is there.
    pub(super) fn learn(&mut self, host: &str, family: RecordType, found: &Found<IpAddr>) -> bool {
        let Found::Some { records, .. } = found else { return false };
        self.addresses.insert((host.to_owned(), family), records.clone());
        true
    }

    /// The addresses of `host` that are remembered, of these families.
    pub(super) fn known(&self, host: &str, families: &[RecordType]) -> Vec<IpAddr> {
        let of = |&family| self.addresses.get(&(host.to_owned(), family)).into_iter().flatten().copied();
        families.iter().flat_map(of).collect()
    }

    /// The addresses of `host` as they are known now. That it has none of one family is believed where it has some of the other.
    pub(super) fn addresses(
        &mut self,
        host: &str,
        found: Vec<(RecordType, Found<IpAddr>)>,
        round: &mut Round,
    ) -> Vec<IpAddr> {
        let has_some = found.iter().any(|(_, found)| matches!(found, Found::Some { .. }));
        let has_failed = found.iter().any(|(_, found)| matches!(found, Found::Failed(_)));
        let mut is_told = has_failed;
        let mut known = Vec::new();
        for (family, found) in found {
            let slot = (host.to_owned(), family);
            match found {
                Found::Some { records, ttl } => {
                    round.lasts(ttl);
                    self.addresses.insert(slot.clone(), records);
                }
                Found::None { .. } if has_some => {
                    self.addresses.remove(&slot);
                }
                Found::None { ttl, .. } if round.accepts_empty => {
                    round.lasts(ttl.unwrap_or(NEGATIVE_TTL));
                    self.addresses.remove(&slot);
                }
                // Once for both families.
                Found::None { error, .. } if !is_told => {
                    is_told = true;
                    round.problems.push(error);
                }
                Found::None { .. } => {}
                Found::Failed(error) => round.problems.push(error),
            }
            known.extend(self.addresses.get(&slot).into_iter().flatten());
        }
        known
    }

    /// Forgets all other hosts.
    pub(super) fn retain(&mut self, is_used: impl Fn(&str) -> bool) {
        self.addresses.retain(|(host, _), _| is_used(host));
    }
}
