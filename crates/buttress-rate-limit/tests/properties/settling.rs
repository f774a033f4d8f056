//! What is given back, owed, looked at and left alone by a clock that jumps: played against each form in which
//! [`Memory`] keeps a token bucket, beside a model that knows every charge.

use std::ops::Range;
use std::time::Duration;

use buttress_core::{Answer, Decided, KeyPart, Store};
use buttress_rate_limit::{Decision, FixedWindow, Gcra, Limit, Memory};
use proptest::prelude::*;

use crate::{HUNDRED_YEARS, at, cases};

/// How a bucket is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One word of 64 bits.
    One,
    /// One of 40, among those of other keys.
    Packed,
    /// Under a lock, since there is a second limit.
    Table,
    /// Each charge for itself.
    Account { keyed: bool, second: bool },
}

const ACCOUNTS: [Form; 3] = [
    Form::Account { keyed: false, second: false },
    Form::Account { keyed: true, second: false },
    Form::Account { keyed: true, second: true },
];

impl Form {
    fn memory(self, gcra: Gcra) -> Memory {
        // Never short, wherever the clock goes.
        let ample = || Limit::from(FixedWindow::new(4_000_000_000, HUNDRED_YEARS)).named("ample");
        let memory = match self {
            Self::Table | Self::Account { second: true, .. } => Memory::all([Limit::from(gcra), ample()]),
            _ => Memory::new(gcra),
        };
        let memory = memory.capacity_for(4);
        if matches!(self, Self::Account { .. }) { memory.settling() } else { memory }
    }

    fn decide(self, memory: &Memory, cost: u32, now: u64) -> Decision {
        let mut sink = memory.sink();
        if !matches!(self, Self::One | Self::Account { keyed: false, .. }) {
            7_u32.write(&mut sink);
        }
        match memory.decide(sink, cost, at(now)) {
            Answer::Now(decision) => decision,
            Answer::Later(_) => unreachable!("the answer of memory comes at once"),
        }
    }

    /// What is left of the first limit.
    fn left(self, memory: &Memory, now: u64) -> u64 {
        let mut left = Vec::new();
        memory.quotas(&self.decide(memory, 0, now), &mut |quota| left.push(quota.remaining));
        left[0]
    }
}

/// Rates with a unit of whole nanoseconds, so that one is a tick of the model too.
fn buckets(units: impl Strategy<Value = u64>, bursts: Range<u64>) -> impl Strategy<Value = Gcra> {
    (units, bursts)
        .prop_map(|(unit, burst)| Gcra::new(1, Duration::from_nanos(unit), burst).expect("it is in range"))
}

fn units() -> impl Strategy<Value = u64> {
    prop_oneof![1_u64..50, long_units()]
}

fn long_units() -> impl Strategy<Value = u64> {
    prop_oneof![1_000_000_u64..20_000_000, Just(3_000_000_000)]
}

fn unit(gcra: &Gcra) -> u64 {
    gcra.period().as_nanos() as u64
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Call(u32),
    Look,
    /// Corrects a call that is still open to so many units.
    Settle(usize, u32),
}

/// Acts, and before each a wait in 16ths of a unit: forward, or anywhere.
fn acts(back: bool) -> impl Strategy<Value = Vec<(i64, Act)>> {
    let act = prop_oneof![
        5 => prop_oneof![3 => Just(1), 1 => 0_u32..6].prop_map(Act::Call),
        1 => Just(Act::Look),
        4 => (any::<prop::sample::Index>(), prop_oneof![3 => Just(0), 1 => 0_u32..4])
            .prop_map(|(which, actual)| Act::Settle(which.index(64), actual)),
    ];
    let forward = prop_oneof![3 => Just(0_i64), 3 => 0_i64..16, 2 => 0_i64..100, 1 => 0_i64..2_000];
    let wait = if back { prop_oneof![8 => forward, 1 => -400_i64..0].boxed() } else { forward.boxed() };
    prop::collection::vec((wait, act), 60)
}

/// A charge that was made.
#[derive(Clone, Copy, Debug)]
struct Charge {
    at: u64,
    cost: u32,
    /// What it comes to as far as it is known.
    kept: u32,
    /// All of it has flowed out, first in, first out, with all that came at the same moment.
    out: bool,
    decision: Decision,
}

/// Calls in the order they came, and what they come to when they are played.
#[derive(Debug, Default)]
struct Account {
    charges: Vec<Charge>,
    settled: Vec<bool>,
}

impl Account {
    /// When the bucket is full again, and what is out by `now` is marked so.
    fn full_again(&mut self, unit: u64, now: Option<u64>) -> u64 {
        let mut full = 0;
        for moment in self.charges.chunk_by_mut(|one, next| one.at == next.at) {
            let kept: u64 = moment.iter().map(|charge| u64::from(charge.kept)).sum();
            if kept > 0 {
                full = moment[0].at.max(full) + kept * unit;
                let out = now.is_some_and(|now| full <= now);
                moment.iter_mut().for_each(|charge| charge.out |= out);
            }
        }
        full
    }

    /// An interval with more units than it may have.
    fn exceeds(&self, gcra: &Gcra) -> Option<(u64, u64, u64)> {
        let mut kept: Vec<_> =
            self.charges.iter().map(|charge| (charge.at, u64::from(charge.kept))).collect();
        kept.sort_unstable();
        kept.iter().enumerate().find_map(|(first, &(from, _))| {
            let mut sum = 0;
            kept[first..].iter().find_map(|&(to, units)| {
                sum += units;
                (sum > gcra.burst() + (to - from) / unit(gcra)).then_some((from, to, sum))
            })
        })
    }
}

/// Plays `acts`; `check` is asked after each whether all is well.
fn play(
    form: Form,
    gcra: Gcra,
    acts: Vec<(i64, Act)>,
    upwards: bool,
    mut check: impl FnMut(&mut Account, &Memory, u64) -> Result<(), TestCaseError>,
) -> Result<(Account, Memory, u64), TestCaseError> {
    let memory = form.memory(gcra);
    let mut account = Account::default();
    // Far enough from the beginning that the clock can go back.
    let mut now = 1_000_000_000_000;
    for (wait, act) in acts {
        // A nanosecond more when it goes back, so that no moment comes twice.
        now = (now as i64 + wait * unit(&gcra) as i64 / 16 + i64::from(wait < 0)).max(0) as u64;
        match act {
            Act::Look => assert!(form.decide(&memory, 0, now).admitted()),
            Act::Call(cost) => {
                let decision = form.decide(&memory, cost, now);
                if decision.admitted() && cost > 0 {
                    // A look at a later time forgets nothing.
                    account.full_again(unit(&gcra), Some(now));
                    let charge = Charge { at: now, cost, kept: cost, out: false, decision };
                    account.charges.push(charge);
                    account.settled.push(false);
                }
            }
            Act::Settle(which, actual) => {
                let open: Vec<_> = (0..account.charges.len()).filter(|n| !account.settled[*n]).collect();
                if !open.is_empty() {
                    let index = open[which % open.len()];
                    account.settled[index] = true;
                    let cost = account.charges[index].cost;
                    let actual = if upwards { actual } else { actual.min(cost) };
                    if actual != cost {
                        account.full_again(unit(&gcra), Some(now));
                    }
                    let charge = &mut account.charges[index];
                    memory.settle(&charge.decision, actual, at(now));
                    if !charge.out {
                        charge.kept = charge.kept.min(actual);
                    }
                }
            }
        }
        check(&mut account, &memory, now)?;
    }
    Ok((account, memory, now))
}

proptest! {
    #![proptest_config(cases(60, 5_000))]

    // In its own words. What is still open counts whole.
    #[test]
    fn what_is_kept_never_exceeds_burst_plus_rate_times_time(
        gcra in buckets(long_units(), 1..40), acts in acts(true),
    ) {
        for form in ACCOUNTS {
            play(form, gcra, acts.clone(), false, |account, _, _| {
                prop_assert_eq!(account.exceeds(&gcra), None, "{:?}", form);
                Ok(())
            })?;
        }
    }

    // The account of up to so many charges is exact.
    #[test]
    fn each_settled_call_is_as_if_it_had_never_been(
        gcra in buckets(units(), 1..30), acts in acts(false),
    ) {
        for form in ACCOUNTS {
            play(form, gcra, acts.clone(), false, |account, memory, now| {
                let owed = account.full_again(unit(&gcra), None).saturating_sub(now);
                let free = (gcra.burst() * unit(&gcra)).saturating_sub(owed) / unit(&gcra);
                prop_assert_eq!(form.left(memory, now), free, "{:?} at {}", form, now);
                Ok(())
            })?;
        }
    }

    #[test]
    fn once_all_are_settled_to_nothing_the_budget_is_whole(
        gcra in buckets(units(), 1..5_000), acts in acts(true),
    ) {
        for form in ACCOUNTS {
            let none = acts.iter().map(|&(wait, act)| match act {
                Act::Settle(which, _) => (wait.max(0), Act::Settle(which, 0)),
                act => (wait.max(0), act),
            });
            let (account, memory, now) = play(form, gcra, none.collect(), false, |_, _, _| Ok(()))?;
            for (charge, settled) in account.charges.iter().zip(&account.settled) {
                if !settled {
                    memory.settle(&charge.decision, 0, at(now));
                }
            }
            prop_assert_eq!(form.left(&memory, now), gcra.burst(), "{:?}", form);
        }
    }

    // A word does not know which charge its debt is of; what it does give back is bounded by the age of the charge.
    #[test]
    fn a_word_gives_back_what_can_be_left_of_the_charge(
        gcra in buckets(units(), 1..40), acts in acts(true),
    ) {
        let forms = [Form::One, Form::Packed, Form::Table];
        for form in forms {
            // The 40 bits stand still where the clock goes back behind their last sweep.
            let forward = form == Form::Packed;
            let (full, unit) = (gcra.burst() * unit(&gcra), unit(&gcra));
            let memory = form.memory(gcra);
            let (mut now, mut word, mut open) = (1_000_000_000_000_u64, 0_u64, Vec::new());
            for &(wait, act) in &acts {
                let wait = if forward { wait.max(0) } else { wait };
                now = (now as i64 + wait * unit as i64 / 16).max(0) as u64;
                match act {
                    Act::Look => assert!(form.decide(&memory, 0, now).admitted()),
                    Act::Call(cost) => {
                        let decision = form.decide(&memory, cost, now);
                        let after = word.max(now) + u64::from(cost) * unit;
                        prop_assert_eq!(decision.admitted(), cost == 0 || after - now <= full, "{:?}", form);
                        if decision.admitted() && cost > 0 {
                            word = after;
                            open.push((now, cost, after, decision));
                        }
                    }
                    Act::Settle(which, actual) if !open.is_empty() => {
                        let (made, cost, after, decision) = open.swap_remove(which % open.len());
                        memory.settle(&decision, actual, at(now));
                        let earned = if form == Form::Table { made + full } else { after };
                        if actual < cost {
                            let back = (u64::from(cost - actual) * unit).min(earned.saturating_sub(now));
                            word = word.min((word - back.min(word)).max(now));
                        } else if actual > cost {
                            let more = word.max(now) + u64::from(actual - cost) * unit;
                            word = word.max(more.min(now + 2 * full));
                        }
                    }
                    Act::Settle(..) => {}
                }
                let free = full.saturating_sub(word.saturating_sub(now)) / unit;
                prop_assert_eq!(form.left(&memory, now), free, "{:?} at {}", form, now);
            }
        }
    }

    // Whatever is owed, looked at or given back, and wherever the clock goes, each form answers.
    #[test]
    fn no_form_admits_more_than_its_limit_at_once(gcra in buckets(units(), 1..40), acts in acts(true)) {
        for form in [Form::One, Form::Packed, Form::Table].into_iter().chain(ACCOUNTS) {
            play(form, gcra, acts.clone(), true, |_, memory, now| {
                let left = form.left(memory, now);
                prop_assert!(left <= gcra.burst());
                if left > 0 {
                    let all = u32::try_from(left).expect("the burst is small");
                    let refused = form.decide(memory, all + 1, now);
                    prop_assert!(!refused.admitted(), "{:?}", form);
                }
                Ok(())
            })?;
        }
    }

    // With charges and looks alone, also where the words of 40 bits are swept and the clock goes back behind that.
    #[test]
    fn a_clock_that_goes_anywhere_makes_no_form_admit_more(
        gcra in buckets(units(), 1..40),
        acts in prop::collection::vec((0_u64..3_000_000_000_000, 0_u32..8), 60),
        jumps in prop::collection::vec((any::<bool>(), 0_u64..200), 60),
    ) {
        let gaps = acts.into_iter().zip(jumps);
        let times: Vec<_> = gaps
            .scan(1_u64 << 38, |now, ((jump, cost), (far, units))| {
                *now = if far { (1 << 38) + jump } else { *now + units * unit(&gcra) / 16 };
                Some((*now, cost))
            })
            .collect();
        for form in [Form::One, Form::Packed, Form::Table].into_iter().chain(ACCOUNTS) {
            let (memory, mut account, mut swept) = (form.memory(gcra), Account::default(), 0);
            for &(now, cost) in &times {
                // Words of 40 bits are swept after so many times 2^32 ticks, and stand still before the last time.
                let at_least = if form == Form::Packed { now.max(swept) } else { now };
                if at_least >> 32 >= (swept >> 32) + 64 {
                    swept = at_least >> 32 << 32;
                }
                let decision = form.decide(&memory, cost, now);
                if decision.admitted() {
                    account.charges.push(Charge { at: at_least, cost, kept: cost, out: false, decision });
                }
            }
            prop_assert_eq!(account.exceeds(&gcra), None, "{:?}", form);
        }
    }
}
