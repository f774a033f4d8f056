//! Priorities and zones: which part of the endpoints a call goes to, before a policy chooses among these.
//!
//! What follows from the list of endpoints, [`Levels`], is made once for each list. What follows from their conditions,
//! [`Outlook`], is made anew when one of them changes: it is one pass over the endpoints, and a pick of it looks at a few numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use buttress_core::{Condition, Endpoint, Name};

use crate::hash::fold;

/// All of the traffic; shares are counted in parts of it.
const ALL: u64 = 1 << 32;
const PERCENT: u128 = 100;
/// Factors are kept in thousandths.
const UNIT: f64 = 1e3;

/// How traffic is shared among endpoints of several [priorities](Endpoint::priority) and [zones](Endpoint::zone).
///
/// A priority can take `spill factor × usable weight / weight` of the traffic, and never more than all of it. So with the
/// factor of 1.4 a priority takes everything as long as 71.4 % of it is usable, and half of it takes 70 %. The weight of an
/// endpoint counts by the share of it that the endpoint asks for now ([`Condition::weight_percent`]); one that drains, or is
/// in maintenance, is weight that is not usable.
///
/// | | traffic |
/// |---|---|
/// | [`active_passive`](Self::active_passive), the default | the first priority takes what it can, the next one what is left, and so on. Where all of them together cannot take everything, each gets its part of what they can |
/// | [`active_active`](Self::active_active) | each priority gets traffic by its configured weight × what it can take |
///
/// Within a priority, degraded endpoints take what the healthy ones cannot, before any of it goes to the next priority.
///
/// Priority 1 is taken to be able to replace priority 0: give it as much capacity. The rule, and the factor, are Envoy's
/// (priority levels and, for active-active, its locality weights); Envoy rounds shares to whole percents, and goes to the healthy
/// endpoints of all priorities before the degraded ones of the first.
///
/// # Panic
///
/// Where less than half ([`panic_below`](Self::panic_below)) of a priority's weight in service is well, and all priorities together cannot take
/// all traffic, the checks may be what is broken; and if they are right, the few endpoints left would be run over. So that priority
/// uses all its endpoints in service, whatever their health. Where none is well in any priority, traffic goes by weight to all of
/// them. Active-active priorities panic together, and then share by weight too.
///
/// # Zones
///
/// With [`prefer_zone`](Self::prefer_zone) the endpoints of that zone come first within each priority, and take what they can by
/// the same rule; those of other zones take the rest. A zone that is small beside what others have is not preferred, since each caller
/// in it would send all its calls there: the zone needs [`fair_part`](Self::fair_part), half by default, of an even share of the
/// priority's weight. With three zones that is a sixth. In panic no zone is preferred.
///
/// ```
/// use buttress_balance::Priorities;
///
/// let priorities = Priorities::default().prefer_zone("eu-1a");
/// assert_eq!(priorities, Priorities::active_passive().spill_factor(1.4).panic_below(50).prefer_zone("eu-1a").fair_part(0.5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priorities {
    active_active: bool,
    spill: u32,
    panic_percent: u8,
    zone: Option<Name>,
    fair: u32,
}

impl Priorities {
    /// A priority is used as those before it fail.
    #[must_use]
    pub const fn active_passive() -> Self {
        Self::new(false)
    }

    /// All priorities are used at once, by their weights.
    #[must_use]
    pub const fn active_active() -> Self {
        Self::new(true)
    }

    const fn new(active_active: bool) -> Self {
        Self { active_active, spill: 1400, panic_percent: 50, zone: None, fair: 500 }
    }

    /// How much more than its share each endpoint can take, in steps of a thousandth. 1.4 by default: a priority takes all
    /// traffic until less than 1/1.4 of it is usable. With 1 each failure moves traffic at once.
    ///
    /// # Panics
    ///
    /// When the factor is not between 1 and 1000.
    #[must_use]
    pub fn spill_factor(mut self, factor: f64) -> Self {
        assert!(
            (1.0..=1000.0).contains(&factor),
            "spill factor {factor}: must be from 1 to 1000, and 1.4 is usual"
        );
        self.spill = (factor * UNIT).round() as u32;
        self
    }

    /// The share that has to be well, in percent, for health to be believed. 50 by default; with 0 nothing ever panics,
    /// and where no endpoint is well there is none.
    ///
    /// # Panics
    ///
    /// When it is above 100.
    #[must_use]
    pub fn panic_below(mut self, percent: u8) -> Self {
        assert!(percent <= 100, "panic below {percent} %: must be 100 at most, and 50 is usual");
        self.panic_percent = percent;
        self
    }

    /// The zone of this process: its endpoints come first.
    #[must_use]
    pub fn prefer_zone(mut self, zone: impl Into<Name>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// How much of an even share of a priority's weight the own zone needs to be preferred, in steps of a thousandth. 0.5 by
    /// default: an endpoint in the own zone then gets at most twice what it would get if all zones were used alike. With 0
    /// it is preferred whatever its size.
    ///
    /// # Panics
    ///
    /// When it is not between 0 and 1.
    #[must_use]
    pub fn fair_part(mut self, part: f64) -> Self {
        assert!((0.0..=1.0).contains(&part), "fair part {part}: must be from 0 to 1, and 0.5 is usual");
        self.fair = (part * UNIT).round() as u32;
        self
    }

    /// Groups `endpoints` into levels.
    #[must_use]
    pub fn levels<'a>(&self, endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Levels {
        Levels::new(self, endpoints)
    }

    /// What `usable` of `weight` can take, at least something where there is anything.
    fn capacity(&self, usable: u128, weight: u128) -> u64 {
        if weight == 0 {
            return 0;
        }
        let taken = (u128::from(ALL) * u128::from(self.spill) * usable).div_ceil(UNIT as u128 * weight);
        taken.min(ALL.into()) as u64
    }
}

impl Default for Priorities {
    /// [`Priorities::active_passive`].
    fn default() -> Self {
        Self::active_passive()
    }
}

/// Where the endpoints of a level stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// In any zone.
    Any,
    /// In the own zone.
    Local,
    /// In other zones, or in none.
    Remote,
}

/// The endpoints of one priority, or those of them that stand in the own zone, or the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Level {
    /// Their priority.
    pub priority: u32,
    /// Where they stand.
    pub place: Place,
}

/// Endpoints grouped into levels, in the order in which these are used. It follows from their configuration alone.
///
/// ```
/// use buttress_balance::{Part, Priorities};
/// use buttress_core::{Endpoint, Health, Timestamp};
///
/// let endpoints =
///     ["a", "b", "c"].map(Endpoint::new).into_iter().chain([Endpoint::new("spare").with_priority(1)]).collect::<Vec<_>>();
/// let levels = Priorities::default().levels(&endpoints);
/// assert_eq!(levels.of(3), 1);
///
/// endpoints[0].set_health(Health::Unhealthy, Timestamp::ZERO);
/// let outlook = levels.outlook(|endpoint| endpoints[endpoint].condition());
/// assert!((outlook.share(0) - 1.4 * 2.0 / 3.0).abs() < 1e-6);
///
/// let tier = outlook.pick(0x1234_5678_9abc_def0).expect("three are usable");
/// assert_eq!(tier.part(), Part::Healthy);
/// ```
#[derive(Clone)]
pub struct Levels {
    rules: Priorities,
    levels: Box<[Level]>,
    /// Of each level.
    configured: Box<[u128]>,
    /// Of each endpoint, its level and its weight.
    members: Box<[(u32, u32)]>,
}

/// What is configured in one priority.
#[derive(Default)]
struct Census<'a> {
    weight: u128,
    local: u128,
    zones: BTreeSet<Option<&'a str>>,
    first_level: u32,
}

impl Levels {
    fn new<'a>(rules: &Priorities, endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Self {
        let endpoints: Vec<&Endpoint> = endpoints.into_iter().collect();
        let is_local = |endpoint: &Endpoint| rules.zone.is_some() && endpoint.zone() == rules.zone.as_ref();

        let mut priorities: BTreeMap<u32, Census<'_>> = BTreeMap::new();
        for endpoint in &endpoints {
            let census = priorities.entry(endpoint.priority()).or_default();
            let weight = u128::from(endpoint.weight());
            census.weight += weight;
            if weight > 0 {
                census.zones.insert(endpoint.zone().map(Name::as_str));
            }
            if is_local(endpoint) {
                census.local += weight;
            }
        }

        let mut levels = Vec::new();
        for (&priority, census) in &mut priorities {
            census.first_level = levels.len() as u32;
            if census.prefers_local(rules) {
                levels.push(Level { priority, place: Place::Local });
                levels.push(Level { priority, place: Place::Remote });
            } else {
                levels.push(Level { priority, place: Place::Any });
            }
        }

        let mut configured = vec![0; levels.len()];
        let members = endpoints
            .iter()
            .map(|endpoint| {
                let first = priorities[&endpoint.priority()].first_level;
                let is_split = levels[first as usize].place == Place::Local;
                let level = first + u32::from(is_split && !is_local(endpoint));
                configured[level as usize] += PERCENT * u128::from(endpoint.weight());
                (level, endpoint.weight())
            })
            .collect();
        Self { rules: rules.clone(), levels: levels.into(), configured: configured.into(), members }
    }

    /// The levels, in the order in which they are used.
    #[must_use]
    pub const fn all(&self) -> &[Level] {
        &self.levels
    }

    /// The level of the endpoint at this position.
    ///
    /// # Panics
    ///
    /// When there is no such position.
    #[inline]
    #[must_use]
    pub const fn of(&self, endpoint: usize) -> usize {
        self.members[endpoint].0 as usize
    }

    /// What follows from the conditions that the endpoints, by their positions, are in now.
    #[must_use]
    pub fn outlook(&self, condition: impl Fn(usize) -> Condition) -> Outlook {
        let mut levels = vec![Strength::default(); self.levels.len()];
        for (strength, &configured) in levels.iter_mut().zip(&self.configured) {
            strength.configured = configured;
        }
        for (endpoint, &(level, weight)) in self.members.iter().enumerate() {
            levels[level as usize].count(weight, condition(endpoint));
        }

        let mut groups: Vec<Group> = Vec::with_capacity(levels.len());
        for (level, (place, strength)) in self.levels.iter().zip(&levels).enumerate() {
            match (groups.last_mut(), place.place) {
                (Some(group), Place::Remote) => group.add_remote(strength),
                _ => groups.push(Group::new(level, strength)),
            }
        }
        for group in &mut groups {
            group.healthy = self.rules.capacity(group.all.healthy, group.all.configured);
            group.capacity = self.rules.capacity(group.all.usable(), group.all.configured);
        }
        self.rules.find_panic(&mut groups);
        self.rules.share_out(&mut groups);

        let mut outlook = Outlook { tiers: Vec::with_capacity(2 * levels.len()), levels };
        for group in &groups {
            outlook.add(&self.rules, group);
        }
        outlook.round_up();
        outlook
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels")
            .field("rules", &self.rules)
            .field("levels", &self.levels)
            .field("endpoints", &self.members.len())
            .finish_non_exhaustive()
    }
}

impl Census<'_> {
    /// Whether the own zone is large enough to be used before the others.
    fn prefers_local(&self, rules: &Priorities) -> bool {
        let needed = u128::from(rules.fair) * self.weight;
        let has = UNIT as u128 * self.local * self.zones.len() as u128;
        0 < self.local && self.local < self.weight && has >= needed
    }
}

/// Weights times percents: of what is configured, and of what is in service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Strength {
    configured: u128,
    in_service: u128,
    healthy: u128,
    degraded: u128,
    panics: bool,
}

impl Strength {
    const fn count(&mut self, weight: u32, condition: Condition) {
        if !condition.is_in_service() {
            return;
        }
        let weight = weight as u128 * condition.weight_percent() as u128;
        self.in_service += weight;
        if !condition.is_well() {
        } else if condition.is_degraded() {
            self.degraded += weight;
        } else {
            self.healthy += weight;
        }
    }

    const fn add(&mut self, other: &Self) {
        self.configured += other.configured;
        self.in_service += other.in_service;
        self.healthy += other.healthy;
        self.degraded += other.degraded;
    }

    const fn usable(&self) -> u128 {
        self.healthy + self.degraded
    }

    const fn of(&self, part: Part) -> u128 {
        match part {
            Part::Healthy => self.healthy,
            Part::Degraded => self.degraded,
            Part::InService => self.in_service,
        }
    }

    /// What counts for the share of a zone: what it can take, or in panic its weight.
    fn takes(&self, rules: &Priorities, part: Part) -> u128 {
        match part {
            Part::InService => self.in_service,
            _ => rules.capacity(self.of(part), self.configured).into(),
        }
    }

    const fn is_well(&self, percent: u8) -> bool {
        self.usable() * PERCENT >= self.in_service * percent as u128
    }
}

/// The levels of one priority.
struct Group {
    first_level: usize,
    is_split: bool,
    all: Strength,
    /// What its healthy endpoints can take, and what these and its degraded ones can.
    healthy: u64,
    capacity: u64,
    panics: bool,
    /// What it takes, and how much of that its degraded endpoints do.
    share: u64,
    degraded_share: u64,
}

impl Group {
    const fn new(first_level: usize, strength: &Strength) -> Self {
        Self {
            first_level,
            is_split: false,
            all: *strength,
            healthy: 0,
            capacity: 0,
            panics: false,
            share: 0,
            degraded_share: 0,
        }
    }

    const fn add_remote(&mut self, remote: &Strength) {
        self.is_split = true;
        self.all.add(remote);
    }
}

impl Priorities {
    fn find_panic(&self, groups: &mut [Group]) {
        let percent = self.panic_percent;
        if self.active_active {
            let mut all = Strength::default();
            groups.iter().for_each(|group| all.add(&group.all));
            let panics = self.capacity(all.usable(), all.configured) < ALL && !all.is_well(percent);
            groups.iter_mut().for_each(|group| group.panics = panics);
        } else if groups.iter().map(|group| group.capacity).fold(0, u64::saturating_add) < ALL {
            groups.iter_mut().for_each(|group| group.panics = !group.all.is_well(percent));
        }
    }

    fn share_out(&self, groups: &mut [Group]) {
        let capacity = groups.iter().map(|group| group.capacity).fold(0, u64::saturating_add);
        // Health says nothing of who can take what.
        if capacity == 0 || self.active_active && groups.iter().any(|group| group.panics) {
            return by_demand(groups, |group| group.all.in_service);
        }
        if self.active_active {
            return by_demand(groups, |group| group.all.configured / PERCENT * u128::from(group.capacity));
        }
        if capacity < ALL {
            return by_demand(groups, |group| group.capacity.into());
        }
        let mut left = ALL;
        for group in groups {
            group.share = group.capacity.min(left);
            group.degraded_share = group.share.saturating_sub(group.healthy);
            left -= group.share;
        }
    }
}

/// Shares all traffic out by `demand`, and what each group has of it by what its healthy endpoints can take.
fn by_demand(groups: &mut [Group], demand: impl Fn(&Group) -> u128) {
    let all: u128 = groups.iter().map(&demand).sum();
    for group in groups {
        group.share = part_of(ALL, demand(group), all);
        group.degraded_share =
            group.share - part_of(group.share, group.healthy.into(), group.capacity.into());
    }
}

/// `amount × part / whole`. The numbers are brought down first where they would not fit.
const fn part_of(amount: u64, part: u128, whole: u128) -> u64 {
    if whole == 0 {
        return 0;
    }
    let excess = (u128::BITS - whole.leading_zeros()).saturating_sub(u64::BITS);
    (amount as u128 * (part >> excess) / (whole >> excess)) as u64
}

/// Which endpoints of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Those that are usable and not degraded.
    Healthy,
    /// Those that are usable and degraded.
    Degraded,
    /// All that are in service: the level is in panic.
    InService,
}

/// A part of a level, and what it is given of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    level: u32,
    part: Part,
    /// Where its share ends, in parts of [`ALL`]. It begins where that of the one before ends.
    until: u64,
}

impl Tier {
    /// The level, by its number in [`Levels::all`].
    #[inline]
    #[must_use]
    pub const fn level(self) -> usize {
        self.level as usize
    }

    /// Which endpoints of it.
    #[inline]
    #[must_use]
    pub const fn part(self) -> Part {
        self.part
    }

    /// Whether an endpoint of this level that is in this condition belongs to it.
    #[inline]
    #[must_use]
    pub const fn takes(self, condition: Condition) -> bool {
        match self.part {
            Part::Healthy => condition.is_usable() && !condition.is_degraded(),
            Part::Degraded => condition.is_usable() && condition.is_degraded(),
            Part::InService => condition.is_in_service(),
        }
    }
}

/// What the levels are given of the traffic, as long as no endpoint's condition changes.
///
/// A hash stays where it is while shares stay. As the share of the first priority grows, hashes move to an earlier priority
/// and none to a later one; as it shrinks, the other way round. The part of the hash that decides about the level says
/// nothing about where in a level the hash is: so keys that spill over are spread over all endpoints.
#[derive(Clone, PartialEq, Eq)]
pub struct Outlook {
    tiers: Vec<Tier>,
    levels: Vec<Strength>,
}

impl Outlook {
    /// Where calls of this hash go; `None` where nothing is usable and nothing panics.
    #[inline]
    #[must_use]
    pub fn pick(&self, hash: u64) -> Option<Tier> {
        self.tiers.get(self.place(hash)).copied()
    }

    #[inline]
    fn place(&self, hash: u64) -> usize {
        match self.tiers.first() {
            Some(tier) if tier.until < ALL => {
                // Not the hash itself: the policies within a level go by its upper bits.
                let at = fold(hash ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93) >> 32;
                self.tiers.partition_point(|tier| tier.until <= at)
            }
            _ => 0,
        }
    }

    /// Where calls of this hash go, and then the other tiers in the order in which they are used, those among them that have
    /// no share now: where nothing of the first takes the call, for it is full or was tried.
    pub fn order(&self, hash: u64) -> impl Iterator<Item = Tier> {
        let place = self.place(hash);
        let others = self.tiers.iter().enumerate().filter(move |&(at, _)| at != place).map(|(_, tier)| tier);
        self.tiers.get(place).into_iter().chain(others).copied()
    }

    /// Whether no endpoint can have traffic.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// What is used of the levels, in the order in which it is.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The share of the traffic that this level has, from 0 to 1.
    #[must_use]
    pub fn share(&self, level: usize) -> f64 {
        self.sum(|tier| tier.level() == level)
    }

    /// The share of the traffic that the degraded endpoints of this level have, from 0 to 1.
    #[must_use]
    pub fn degraded_share(&self, level: usize) -> f64 {
        self.sum(|tier| tier.level() == level && tier.part == Part::Degraded)
    }

    fn sum(&self, counts: impl Fn(&Tier) -> bool) -> f64 {
        let mut before = 0;
        let mut sum = 0;
        for tier in &self.tiers {
            if counts(tier) {
                sum += tier.until - before;
            }
            before = tier.until;
        }
        sum as f64 / ALL as f64
    }

    /// Whether this level uses all its endpoints in service, whatever their health.
    ///
    /// # Panics
    ///
    /// When there is no such level.
    #[must_use]
    pub fn panics(&self, level: usize) -> bool {
        self.levels[level].panics
    }

    /// The weight of the endpoints of this level that are usable, each by the share of its weight that it asks for.
    ///
    /// # Panics
    ///
    /// When there is no such level.
    #[must_use]
    pub fn usable_weight(&self, level: usize) -> f64 {
        self.levels[level].usable() as f64 / PERCENT as f64
    }

    /// Adds what is used of a priority. Its levels come in turn, first with their healthy endpoints and then with the
    /// degraded ones: a healthy endpoint in another zone is better than a degraded one in the own.
    fn add(&mut self, rules: &Priorities, group: &Group) {
        let levels = group.first_level..group.first_level + 1 + usize::from(group.is_split);
        let healthy_share = group.share - group.degraded_share;
        let parts: &[(Part, u64)] = if group.panics {
            &[(Part::InService, group.share)]
        } else {
            &[(Part::Healthy, healthy_share), (Part::Degraded, group.degraded_share)]
        };
        for &(part, share) in parts {
            let local = match &self.levels[levels.clone()] {
                [local, remote] => {
                    let (takes, others) = (local.takes(rules, part), remote.takes(rules, part));
                    let most = if group.panics { u128::MAX } else { ALL.into() };
                    part_of(share, takes, (takes + others).min(most))
                }
                _ => share,
            };
            for (level, share) in levels.clone().zip([local, share - local]) {
                let strength = &mut self.levels[level];
                strength.panics = group.panics;
                if strength.of(part) > 0 {
                    let until = self.tiers.last().map_or(0, |tier| tier.until) + share;
                    self.tiers.push(Tier { level: level as u32, part, until });
                }
            }
        }
    }

    /// Gives what rounding has left to the last tier that has something.
    fn round_up(&mut self) {
        let end = self.tiers.last().map_or(ALL, |tier| tier.until);
        for tier in self.tiers.iter_mut().rev().take_while(|tier| tier.until == end) {
            tier.until = ALL;
        }
    }
}

impl fmt::Debug for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for tier in &self.tiers {
            map.entry(&(tier.level, tier.part), &self.sum(|other| other == tier));
        }
        map.finish()
    }
}
