use super::{EjectionReason, Fault, Rules, Seen};

const BITS: u32 = 13;
const MASK: u64 = (1 << BITS) - 1;
const FIVE: u32 = 0;
const GATEWAY: u32 = BITS;
const LOCAL: u32 = 2 * BITS;
const EPOCH: u32 = 3 * BITS;

/// The failures in a row of one endpoint, and its epoch, in one word: `epoch (25 bits) | local | gateway | 5xx`.
///
/// The epoch counts its ejections and their ends, so it is odd while the endpoint is ejected. As it is in the word, a
/// result that was admitted in another epoch cannot move a row, in whatever order threads come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows(u64);

/// The rows that a result has filled, in the order in which they are judged.
pub(crate) type Full = [Option<EjectionReason>; 2];

impl Rows {
    /// The longest row.
    pub(crate) const MOST: u32 = 8000;

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn epoch(self) -> u32 {
        (self.0 >> EPOCH) as u32
    }

    #[inline]
    pub(crate) const fn is_ejected(self) -> bool {
        self.epoch() % 2 == 1
    }

    /// The next epoch, with empty rows.
    pub(crate) const fn next_epoch(self) -> Self {
        Self((self.0 >> EPOCH).wrapping_add(1) << EPOCH)
    }

    /// Failures in a row.
    pub(crate) const fn failures(self) -> u32 {
        self.row(FIVE)
    }

    /// Gateway failures in a row.
    pub(crate) const fn gateway_failures(self) -> u32 {
        self.row(GATEWAY)
    }

    /// Failures in a row without a response.
    pub(crate) const fn local_failures(self) -> u32 {
        self.row(LOCAL)
    }

    /// The rows after a result, and those that it fills. A full row begins anew, so that an endpoint which could not be
    /// ejected is judged again after as many failures.
    #[inline]
    pub(crate) fn after(self, seen: Seen, rules: &Rules) -> (Self, Full) {
        match seen {
            Seen::Success => (Self(self.0 >> EPOCH << EPOCH), [None; 2]),
            Seen::Soft => (self, [None; 2]),
            Seen::Failure(fault) => self.after_failure(fault, rules),
        }
    }

    fn after_failure(self, fault: Fault, rules: &Rules) -> (Self, Full) {
        if rules.split && fault == Fault::Local {
            let (next, local) = self.longer(LOCAL, rules.consecutive_local_origin_failure);
            return (next, [local.then_some(EjectionReason::ConsecutiveLocalOriginFailure), None]);
        }
        let (next, gateway) = if fault == Fault::Service {
            (self.without(GATEWAY), false)
        } else {
            self.longer(GATEWAY, rules.consecutive_gateway_failure)
        };
        let (next, five) = next.without(LOCAL).longer(FIVE, rules.consecutive_5xx);
        let full = [
            gateway.then_some(EjectionReason::ConsecutiveGatewayFailure),
            five.then_some(EjectionReason::Consecutive5xx),
        ];
        (next, full)
    }

    const fn row(self, shift: u32) -> u32 {
        (self.0 >> shift & MASK) as u32
    }

    const fn without(self, shift: u32) -> Self {
        Self(self.0 & !(MASK << shift))
    }

    /// One more in the row, and whether that makes it full.
    const fn longer(self, shift: u32, full: u32) -> (Self, bool) {
        let next = self.row(shift) + 1;
        if next >= full {
            return (self.without(shift), true);
        }
        (Self(self.without(shift).0 | (next as u64) << shift), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EjectionReason::{Consecutive5xx, ConsecutiveGatewayFailure, ConsecutiveLocalOriginFailure};

    const NONE: [EjectionReason; 0] = [];
    const SERVICE: Seen = Seen::Failure(Fault::Service);
    const GATEWAY: Seen = Seen::Failure(Fault::Gateway);
    const LOCAL: Seen = Seen::Failure(Fault::Local);

    fn rules(split: bool) -> Rules {
        Rules {
            consecutive_5xx: 3,
            consecutive_gateway_failure: 2,
            consecutive_local_origin_failure: 2,
            split,
            ..Rules::default()
        }
    }

    /// What fills rows, one after another.
    fn full(rules: &Rules, seen: &[Seen]) -> Vec<EjectionReason> {
        let mut rows = Rows::default().next_epoch().next_epoch();
        let mut reasons = Vec::new();
        for seen in seen {
            let (next, full) = rows.after(*seen, rules);
            assert_eq!(next.epoch(), 2, "results leave the epoch alone");
            rows = next;
            reasons.extend(full.into_iter().flatten());
        }
        reasons
    }

    #[test]
    fn a_row_is_full_at_its_limit_and_then_begins_anew() {
        assert_eq!(full(&rules(false), &[SERVICE; 2]), NONE);
        assert_eq!(full(&rules(false), &[SERVICE; 3]), [Consecutive5xx]);
        assert_eq!(full(&rules(false), &[SERVICE; 5]), [Consecutive5xx]);
        assert_eq!(full(&rules(false), &[SERVICE; 6]), [Consecutive5xx; 2]);
    }

    #[test]
    fn a_success_ends_every_row_and_what_is_soft_ends_none() {
        assert_eq!(full(&rules(false), &[SERVICE, SERVICE, Seen::Success, SERVICE, SERVICE]), NONE);
        assert_eq!(
            full(&rules(false), &[SERVICE, SERVICE, Seen::Soft, Seen::Soft, SERVICE]),
            [Consecutive5xx]
        );
        assert_eq!(full(&rules(false), &[Seen::Soft; 20]), NONE);
    }

    #[test]
    fn a_gateway_failure_is_in_both_rows_and_another_failure_ends_that_of_gateways() {
        assert_eq!(full(&rules(false), &[GATEWAY; 2]), [ConsecutiveGatewayFailure]);
        assert_eq!(full(&rules(false), &[GATEWAY, SERVICE, GATEWAY]), [Consecutive5xx]);
        assert_eq!(
            full(&rules(false), &[SERVICE, GATEWAY, GATEWAY]),
            [ConsecutiveGatewayFailure, Consecutive5xx],
            "the same failure fills both"
        );
    }

    #[test]
    fn no_response_counts_as_a_gateway_failure_unless_it_is_split_off() {
        assert_eq!(full(&rules(false), &[LOCAL; 2]), [ConsecutiveGatewayFailure]);
        assert_eq!(full(&rules(true), &[LOCAL; 2]), [ConsecutiveLocalOriginFailure]);
        assert_eq!(
            full(&rules(true), &[SERVICE, SERVICE, LOCAL, SERVICE]),
            [Consecutive5xx],
            "rows of their own"
        );
        assert_eq!(full(&rules(true), &[LOCAL, SERVICE, LOCAL]), NONE, "a response ends the row of none");
    }

    #[test]
    fn the_longest_rows_fit_beside_each_other_and_the_epoch_wraps_alone() {
        let most = Rows::MOST + 1;
        let rules = Rules {
            consecutive_5xx: most,
            consecutive_gateway_failure: most,
            consecutive_local_origin_failure: most,
            ..rules(false)
        };
        let last_epoch = Rows::from_bits(((1 << 25) - 1) << EPOCH);
        let mut rows = last_epoch;
        for _ in 0..Rows::MOST {
            rows = rows.after(LOCAL, &rules).0;
        }

        assert_eq!(
            (rows.failures(), rows.gateway_failures(), rows.local_failures()),
            (Rows::MOST, Rows::MOST, 0)
        );
        assert_eq!(rows.epoch(), last_epoch.epoch());
        assert!(rows.is_ejected());
        assert_eq!(rows.next_epoch(), Rows::default());
    }
}
