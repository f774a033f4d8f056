//! What happens in the world, and which policies are tried in it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use buttress_balance::{AnyPolicy, ConsistentHash, LeastLoad, Priorities, Settings, SlowStart, Static};
use buttress_core::{Endpoint, Health, Timestamp};

use crate::host::Host;
use crate::measure::Measured;
use crate::policies::{Metered, Tower};
use crate::world::{Farm, Random, simulate};

/// The names that checks ask for.
pub(crate) const RANDOM: &str = "random";
pub(crate) const TOWERS: &str = "peak EWMA by Tower's formula";
pub(crate) const OURS: &str = "peak EWMA, failures penalised";

/// One world, and what is tried in it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The rest of it, in sentences that each end with a blank.
    pub(crate) what: &'static str,
    pub(crate) hosts: usize,
    pub(crate) clients: u64,
    pub(crate) calls: u64,
    pub(crate) seconds: u64,
    pub(crate) workers: u32,
    /// The part of their time that all workers together are busy, as long as nothing happens.
    pub(crate) load: f64,
    keys: Keys,
    pub(crate) extra: Extra,
    /// What happens at the beginning of each second.
    pub(crate) script: fn(&mut Farm, u64),
    pub(crate) rows: Vec<Row>,
}

/// What is told beside times, load and errors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    Nothing,
    Affinity,
    MostCalls,
    MostAtOnce,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Each call has one of its own.
    Unique,
    /// A hundred thousand, of which the nth comes as often as 1 / n^1.1 says.
    Zipf,
}

/// One policy.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    policy: Choice,
    /// Those of the nth client.
    pub(crate) settings: fn(Settings, u64) -> Settings,
    pub(crate) subset: Option<usize>,
    /// Slow hosts have a weight of 1 where others have 10.
    knows_weights: bool,
}

enum Choice {
    Ours(AnyPolicy),
    Tower,
    Bandwidth,
}

impl Row {
    fn new(name: &'static str, policy: impl Into<AnyPolicy>) -> Self {
        Self::of(name, Choice::Ours(policy.into()))
    }

    fn of(name: &'static str, policy: Choice) -> Self {
        Self { name, policy, settings: |settings, _| settings, subset: None, knows_weights: false }
    }

    fn with(mut self, settings: fn(Settings, u64) -> Settings) -> Self {
        self.settings = settings;
        self
    }

    const fn subset(mut self, size: usize) -> Self {
        self.subset = Some(size);
        self
    }

    const fn weighted(mut self) -> Self {
        self.knows_weights = true;
        self
    }

    pub(crate) fn run(&self, scenario: &Scenario) -> Measured {
        match &self.policy {
            Choice::Ours(policy) => simulate(scenario, self, policy),
            Choice::Tower => simulate(scenario, self, &Tower::policy()),
            Choice::Bandwidth => simulate(scenario, self, &Metered(LeastLoad::bandwidth())),
        }
    }
}

impl Scenario {
    /// What a call takes on average, in seconds: so much that the hosts have their load.
    pub(crate) fn mean(&self) -> f64 {
        self.load * f64::from(self.workers) * self.seconds as f64 * self.hosts as f64 / self.calls as f64
    }

    pub(crate) fn has_keys(&self) -> bool {
        self.keys == Keys::Zipf
    }

    pub(crate) fn key(&self, call: u64, random: &mut Random) -> u64 {
        match self.keys {
            Keys::Unique => call,
            Keys::Zipf => zipf(random.even()),
        }
    }

    pub(crate) fn farm(&self, row: &Row) -> Farm {
        let endpoint = |host: usize| {
            let address = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + host as u32), 443));
            let weight = if row.knows_weights && !is_slow(host) { 10 } else { 1 };
            Endpoint::new(address.to_string()).with_weight(weight).with_zone(ZONES[host % 3])
        };
        Farm {
            hosts: (0..self.hosts).map(|_| Host::new(self.workers)).collect(),
            endpoints: (0..self.hosts).map(endpoint).collect(),
            now: Timestamp::ZERO,
        }
    }
}

/// The rank of a key, where `even` is an even number between 0 and 1.
fn zipf(even: f64) -> u64 {
    static SUMS: OnceLock<Vec<f64>> = OnceLock::new();
    let sums = SUMS.get_or_init(|| {
        let mut sum = 0.0;
        (1..=100_000)
            .map(|rank| {
                sum += f64::from(rank).powf(-1.1);
                sum
            })
            .collect()
    });
    let all = sums.last().copied().unwrap_or_default();
    sums.partition_point(|&sum| sum < even * all) as u64
}

const fn is_slow(host: usize) -> bool {
    host % 10 == 9
}

const ZONES: [&str; 3] = ["a", "b", "c"];

fn own_zone(client: u64) -> Priorities {
    Priorities::default().prefer_zone(ZONES[client as usize % 3])
}

fn usual() -> Vec<Row> {
    vec![
        Row::new("round robin", Static::round_robin()),
        Row::new(RANDOM, Static::random()),
        Row::new("least connections", LeastLoad::connections()),
        Row::new("least response time", LeastLoad::response_time()),
        Row::of("least bandwidth", Choice::Bandwidth),
        Row::of(TOWERS, Choice::Tower),
        Row::new(OURS, LeastLoad::peak_ewma()),
        Row::new("hot/cold", LeastLoad::hot_cold()),
        Row::new("reported (A58)", LeastLoad::reported()),
    ]
}

fn with(rows: Vec<Row>, more: impl IntoIterator<Item = Row>) -> Vec<Row> {
    rows.into_iter().chain(more).collect()
}

pub(crate) fn all() -> Vec<Scenario> {
    let large = || Scenario {
        name: "",
        title: "",
        what: "",
        hosts: 1_000,
        clients: 1,
        calls: 1_000_000,
        seconds: 60,
        workers: 1,
        load: 0.6,
        keys: Keys::Unique,
        extra: Extra::Nothing,
        script: |_, _| {},
        rows: usual(),
    };
    let small = || Scenario { hosts: 100, workers: 4, load: 0.5, ..large() };
    vec![
        Scenario { name: "S1", title: "all hosts are alike", hosts: 10_000, ..large() },
        Scenario {
            name: "S2",
            title: "10 % of the hosts are 10 times slower",
            script: |farm, second| {
                if second == 0 {
                    farm.hosts.iter_mut().skip(9).step_by(10).for_each(|host| host.slowness = 10.0);
                }
            },
            rows: with(
                usual(),
                [
                    Row::new("weighted round robin, weights known", Static::round_robin()).weighted(),
                    Row::new("weighted random, weights known", Static::random()).weighted(),
                ],
            ),
            ..large()
        },
        Scenario {
            name: "S3",
            title: "5 % of the hosts fail each call in 1 ms",
            what: "From 20 s on. ",
            script: |farm, second| {
                if second == 20 {
                    farm.hosts.iter_mut().step_by(20).for_each(|host| host.fails = true);
                }
            },
            ..large()
        },
        Scenario {
            name: "S4",
            title: "something else runs on some hosts, and moves",
            what: "20 % of the hosts, others every 5 s, are 3 times slower. ",
            script: |farm, second| {
                let turn = second as usize / 5;
                for (at, host) in farm.hosts.iter_mut().enumerate() {
                    host.slowness = if at % 5 == turn % 5 { 3.0 } else { 1.0 };
                }
            },
            ..large()
        },
        Scenario {
            name: "S5",
            title: "a rolling restart of 1 % a second",
            what: "Each host is drained for 5 s, and takes twice as long in the 10 s after that. ",
            seconds: 140,
            extra: Extra::MostCalls,
            script: |farm, second| {
                let host = |after: u64| {
                    let first = second.checked_sub(25 + after)? as usize;
                    (first < farm.hosts.len()).then_some(first)
                };
                let (leaves, comes, warm) = (host(0), host(5), host(15));
                if let Some(at) = leaves {
                    farm.endpoints[at].drain(farm.now);
                    farm.hosts[at].slowness = 1.0;
                }
                if let Some(at) = comes {
                    farm.endpoints[at].resume(farm.now);
                    farm.hosts[at].slowness = 2.0;
                }
                if let Some(at) = warm {
                    farm.hosts[at].slowness = 1.0;
                }
            },
            rows: with(
                usual(),
                [Row::new("peak EWMA, no slow start", LeastLoad::peak_ewma())
                    .with(|settings, _| settings.slow_start(SlowStart::off()))],
            ),
            ..small()
        },
        Scenario {
            name: "S6",
            title: "keys by Zipf's law (1.1)",
            what: "The first key of 100 000 has 13 % of the calls. ",
            keys: Keys::Zipf,
            extra: Extra::Affinity,
            rows: vec![
                Row::new("round robin", Static::round_robin()),
                Row::new("peak EWMA by key", LeastLoad::peak_ewma()),
                Row::new("hash modulo N", Static::modulo()),
                Row::new("ring", ConsistentHash::ring()),
                Row::new("ring, bounded load 1.25", ConsistentHash::ring())
                    .with(|settings, _| settings.bounded_load(1.25)),
                Row::new("ring, bounded load 2", ConsistentHash::ring())
                    .with(|settings, _| settings.bounded_load(2.0)),
                Row::new("Maglev", ConsistentHash::maglev()),
                Row::new("Maglev, bounded load 1.25", ConsistentHash::maglev())
                    .with(|settings, _| settings.bounded_load(1.25)),
                Row::new("Maglev, bounded load 2", ConsistentHash::maglev())
                    .with(|settings, _| settings.bounded_load(2.0)),
            ],
            ..small()
        },
        Scenario {
            name: "S7",
            title: "a zone is lost, and later checks are wrong",
            what: "There is a client in each of three zones, which prefers it. One zone is lost from 15 s to 30 s, which checks see after \
                   2 s; from 40 s to 55 s they call two thirds of all hosts unhealthy, which are well. ",
            clients: 3,
            hosts: 900,
            script: |farm, second| {
                let (lost, seen, well) = (second == 15, second == 17, second == 30);
                for at in 0..farm.hosts.len() {
                    let endpoint = &farm.endpoints[at];
                    if at % 3 == 0 {
                        farm.hosts[at].fails = (farm.hosts[at].fails || lost) && !well;
                    }
                    let misjudged = at % 9 < 6 && (40..55).contains(&second);
                    if at % 3 == 0 && seen || misjudged {
                        endpoint.set_health(Health::Unhealthy, farm.now);
                    } else if well || second == 55 {
                        endpoint.set_health(Health::Healthy, farm.now);
                    }
                }
            },
            rows: with(
                usual()
                    .into_iter()
                    .map(|row| row.with(|settings, client| settings.priorities(own_zone(client))))
                    .collect(),
                [
                    Row::new("peak EWMA, no panic", LeastLoad::peak_ewma())
                        .with(|settings, client| settings.priorities(own_zone(client).panic_below(0))),
                    Row::new("peak EWMA, zones ignored", LeastLoad::peak_ewma()),
                ],
            ),
            ..small()
        },
        Scenario {
            name: "S8",
            title: "many clients that know nothing of each other",
            hosts: 200,
            clients: 100,
            extra: Extra::MostAtOnce,
            load: 0.7,
            rows: with(
                usual(),
                [
                    Row::new("least connections of all", LeastLoad::connections().all()),
                    Row::new("peak EWMA of all", LeastLoad::peak_ewma().all()),
                    Row::new("round robin over a subset of 20", Static::round_robin()).subset(20),
                    Row::new("peak EWMA over a subset of 20", LeastLoad::peak_ewma()).subset(20),
                ],
            ),
            ..small()
        },
    ]
}
