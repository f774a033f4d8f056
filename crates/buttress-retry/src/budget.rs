use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::Timestamp;

use crate::SettingError;
use crate::ledger::Ledger;
use crate::policy::BudgetRule;

/// How many extra attempts, retries and hedges, a service makes for the calls that it is given.
///
/// A service that fails is sent more requests by each client that tries again, just when it can bear them least. A budget
/// bounds that for all calls together: with a ratio of 0.2, a service that fails altogether gets 1.2 times the load that
/// it would get anyway, however many attempts one call may make.
///
/// What holds exactly, however many threads share it: at each extra attempt, the extra attempts of the window that ends
/// with it, itself among them, are no more than
///
/// > ratio · (originals in that window) + minimum rate · window
///
/// It follows that all extra attempts since the budget was made are no more than ratio · originals + minimum rate · (time +
/// window), and those of any window, wherever it begins, no more than its originals and those of the window before it pay
/// for.
///
/// The window slides in steps of a twentieth. Within a step the budget leans to the safe side: an extra attempt counts for
/// a window and up to a twentieth more, an original for a window or up to a twentieth less. Of what the bound allows a
/// steady stream gets 95 % in this way. The ratio is kept to a billionth: 0.6 is 0.6.
///
/// A clone is the same budget, and so are all services of a layer that was given one. The steps that change a setting
/// ([`min_per_second`](Self::min_per_second), [`window`](Self::window)) begin a new one.
///
/// | setting | default | why |
/// |---|---|---|
/// | ratio | 0.2 in [`Budget::default`] | as in Finagle, tower and Envoy: a fifth more load can be borne |
/// | minimum rate | 10 per second in [`Budget::default`], else 0 | few calls would pay for no retry at all |
/// | window | 10 s | as in Finagle and tower |
///
/// Layers side by side may share a budget: each call goes through one of them. Where one stands above another, each would
/// count the same call; give the inner one [`without_deposits`](Self::without_deposits).
///
/// The counts are lock-free: a deposit is one atomic addition, a withdrawal one compare-and-swap, whatever the rate and
/// however long nothing happened before. A budget takes a kilobyte.
///
/// ```
/// use buttress_core::Timestamp;
/// use buttress_retry::Budget;
///
/// let budget = Budget::ratio(0.1);
/// let now = Timestamp::ZERO;
/// for _ in 0..20 {
///     budget.deposit(now);
/// }
/// assert!(budget.withdraw(now) && budget.withdraw(now));
/// assert!(!budget.withdraw(now), "20 originals pay for 2");
/// ```
#[derive(Clone)]
pub struct Budget {
    /// `None` is without a bound.
    shared: Option<Arc<Shared>>,
    deposits: bool,
}

struct Shared {
    rule: BudgetRule,
    ledger: Ledger,
}

impl Budget {
    /// Allows extra attempts for `ratio` of the originals in the last 10 s, and no others.
    ///
    /// By itself it allows none until 1 / `ratio` originals came within a window; see
    /// [`min_per_second`](Self::min_per_second).
    ///
    /// # Panics
    ///
    /// When [`try_ratio`](Self::try_ratio) fails: `ratio` is not above 0 and at most 1.
    #[must_use]
    #[track_caller]
    pub fn ratio(ratio: f64) -> Self {
        Self::try_ratio(ratio).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`ratio`](Self::ratio), for a number that is read from elsewhere.
    ///
    /// # Errors
    ///
    /// When `ratio` is not a number, not above 0, above 1 (a budget is there to keep extra attempts fewer than the calls
    /// themselves), or less than a billionth.
    pub fn try_ratio(ratio: f64) -> Result<Self, SettingError> {
        BudgetRule::ratio(ratio).map(Self::new)
    }

    /// Allows every extra attempt and counts none: for tests, and where something else bounds them.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { shared: None, deposits: true }
    }

    /// Allows `n` extra attempts per second beside those that the ratio allows. All that are due to a window may come at
    /// once: with 10 per second, 100 in the first 10 s. Begins a new budget.
    #[must_use]
    pub fn min_per_second(self, n: u32) -> Self {
        self.change(|rule| Ok(rule.min_per_second(n)))
    }

    /// Counts over `window`, 10 s unless said otherwise, rounded up to a multiple of 20 ns. Begins a new budget.
    ///
    /// A longer one lets more extra attempts come at once after a calm time; a shorter one forgets originals sooner than
    /// calls may take to fail.
    ///
    /// # Panics
    ///
    /// When `window` is below 1 s or above 1 h.
    #[must_use]
    #[track_caller]
    pub fn window(self, window: Duration) -> Self {
        self.change(|rule| rule.window(window))
    }

    /// The same budget for a layer below another one that shares it, so that no call is counted twice: it is withdrawn
    /// from, and not deposited to.
    ///
    /// ```
    /// use buttress_core::Timestamp;
    /// use buttress_retry::Budget;
    ///
    /// let budget = Budget::ratio(1.0);
    /// let below = budget.without_deposits();
    /// below.deposit(Timestamp::ZERO);
    /// assert_eq!(below.left(Timestamp::ZERO), 0);
    /// budget.deposit(Timestamp::ZERO);
    /// assert!(below.withdraw(Timestamp::ZERO));
    /// ```
    #[must_use]
    pub fn without_deposits(&self) -> Self {
        Self { deposits: false, ..self.clone() }
    }

    /// Counts an original: the first attempt of a call. Layers do so for each call that they pass on.
    ///
    /// `now` is the present moment by the clock of the layer. A moment before one that was seen is taken for the latest
    /// step of the window.
    #[inline]
    pub fn deposit(&self, now: Timestamp) {
        if let (Some(shared), true) = (&self.shared, self.deposits) {
            shared.ledger.deposit(&shared.rule, now);
        }
    }

    /// Takes one extra attempt, and says whether there was one to be had.
    ///
    /// What is taken is not given back: it is taken when the attempt is about to be made, and returns to the budget when
    /// the window has passed.
    #[inline]
    #[must_use = "an extra attempt that is not made is taken from others"]
    pub fn withdraw(&self, now: Timestamp) -> bool {
        match &self.shared {
            None => true,
            Some(shared) => shared.ledger.withdraw(&shared.rule, now),
        }
    }

    /// How many extra attempts could be taken at `now`; `u64::MAX` of an [`unlimited`](Self::unlimited) budget. Others may
    /// take them meanwhile.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> u64 {
        self.shared.as_ref().map_or(u64::MAX, |shared| shared.ledger.left(&shared.rule, now))
    }

    fn new(rule: BudgetRule) -> Self {
        let shared = Shared { rule, ledger: Ledger::new() };
        Self { shared: Some(Arc::new(shared)), deposits: true }
    }

    /// Without a bound there is nothing to change.
    #[track_caller]
    fn change(self, change: impl FnOnce(BudgetRule) -> Result<BudgetRule, SettingError>) -> Self {
        let Some(shared) = &self.shared else { return self };
        match change(shared.rule) {
            Ok(rule) => Self { deposits: self.deposits, ..Self::new(rule) },
            Err(error) => panic!("{error}"),
        }
    }
}

impl Default for Budget {
    /// A ratio of 0.2 and 10 per second, over 10 s.
    fn default() -> Self {
        Self::ratio(0.2).min_per_second(10)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(shared) = &self.shared else { return f.write_str("Budget(unlimited)") };
        f.debug_struct("Budget")
            .field("ratio", &shared.rule.ratio_as_given())
            .field("min_per_second", &shared.rule.min_rate())
            .field("window", &shared.rule.whole_window())
            .finish_non_exhaustive()
    }
}
