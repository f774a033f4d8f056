//! Endpoints from DNS.

mod error;
mod lookup;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{Clock, Endpoint, Endpoints, Name, Sleep, draw};
use futures_util::{StreamExt, stream};
use hickory_resolver::proto::rr::RecordType;

pub use error::DnsError;

use self::lookup::{Families, Found, Lookups, Target};
use self::memory::{Memory, Round};
use super::DiscoverEvent;
use super::feed::Feed;
use crate::backoff::backoff;

/// The first wait after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How many addresses of SRV records' targets are looked up at once.
const AT_ONCE: usize = 32;
/// What comes so long after another answer makes a list of its own.
const PATIENCE: Duration = Duration::from_millis(200);

/// Endpoints that DNS knows: the addresses of a name (A and AAAA), or the targets of a service (SRV, RFC 2782).
///
/// Each address is an endpoint, which is called as it is reached: `192.0.2.1:443`. The name that it was found under is its `host` in
/// its [metadata](Endpoint::metadata), for TLS and the `Host` field.
///
/// | | default | |
/// |---|---|---|
/// | [`ttl`](Self::ttl) | 1 s – 5 min | the least of the answers' times to live, held within these, says when to ask again; up to a tenth of it is added by chance, so that processes do not ask together |
/// | [`timeout`](Self::timeout) | 2 s | for one try; a server is tried three times |
/// | [`server`](Self::server) | those of the system | which servers are asked |
/// | [`accept_empty`](Self::accept_empty) | no | whether "there are none" is believed |
/// | families | both | [`ipv4_only`](Self::ipv4_only), [`ipv6_only`](Self::ipv6_only) |
///
/// # When DNS fails
///
/// Each answer that was good stays in use until there is a better one: where the server answers for A and not for AAAA, or for one
/// target of a service and not for another, only what it did not answer stays as it was. A name that does not exist and an answer without
/// records are failures too, since that is what a broken zone looks like; [`accept_empty`](Self::accept_empty) believes them. After a failure it
/// asks again in 1 s, then in twice that, up to 30 s, or when the first of its good answers ends. Where DNS cannot be reached at the start, the list is empty until it can.
///
/// No answer waits for one that does not come: the first good ones make a list 200 ms later, as soon as some address is known of each host (or
/// of any, while there is no list), and the rest joins them. Some servers are silent for AAAA; where there is no IPv6, [`ipv4_only`](Self::ipv4_only) saves
/// the questions. The settings of the system are read again after a failure.
///
/// # SRV records
///
/// The priority of a record is that of its endpoints, and its weight that of each of them. A weight of 0, which RFC 2782 gives "a very
/// small chance", is 1; then all are divided by what divides them all, since a ring has points for each unit. A record with the target `.` says that there is no such service. An address and port that several records have
/// is one endpoint, of the first of them in order.
///
/// ```
/// use buttress_balance::discover::Dns;
///
/// # fn main() -> Result<(), buttress_balance::discover::DnsError> {
/// let web = Dns::addresses("web.internal.example.", 8080)?;
/// let api = Dns::services("_http._tcp.api.example.")?;
/// # let _ = (web, api);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it runs"]
pub struct Dns {
    feed: Feed,
    what: What,
    ttl: (Duration, Duration),
    timeout: Duration,
    servers: Vec<SocketAddr>,
    families: Families,
    accepts_empty: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// The addresses of the name, with this port.
    Addresses(u16),
    Services,
}

impl Dns {
    /// The addresses that `name` has, each with this port. A name that does not end in a dot is looked up as the system does it, in its
    /// search domains too.
    ///
    /// # Errors
    ///
    /// When `name` cannot be one.
    pub fn addresses(name: impl Into<Name>, port: u16) -> Result<Self, DnsError> {
        Self::new(name.into(), What::Addresses(port))
    }

    /// The targets that the service `name` has, such as `_http._tcp.example.org.`
    ///
    /// # Errors
    ///
    /// When `name` cannot be one.
    pub fn services(name: impl Into<Name>) -> Result<Self, DnsError> {
        Self::new(name.into(), What::Services)
    }

    fn new(name: Name, what: What) -> Result<Self, DnsError> {
        lookup::check(&name)?;
        Ok(Self {
            feed: Feed::empty(name),
            what,
            ttl: (Duration::from_secs(1), Duration::from_secs(300)),
            timeout: Duration::from_secs(2),
            servers: Vec::new(),
            families: Families::Both,
            accepts_empty: false,
        })
    }

    /// Asks this server, by UDP, and by TCP where an answer is too long for that, and not those of the system. Several are asked in
    /// turn.
    pub fn server(mut self, address: SocketAddr) -> Self {
        self.servers.push(address);
        self
    }

    /// Holds times to live within these. 1 s to 5 min by default: below, DNS would see a query for nearly each change that never is; above,
    /// an endpoint that is gone would be tried for long.
    ///
    /// # Panics
    ///
    /// When the least is zero or above the most.
    pub fn ttl(mut self, ttl: RangeInclusive<Duration>) -> Self {
        let (least, most) = ttl.into_inner();
        assert!(
            Duration::ZERO < least && least <= most,
            "ttl of {least:?} to {most:?}: must be above zero, and in this order"
        );
        self.ttl = (least, most);
        self
    }

    /// Gives up a try after this time. 2 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Looks for IPv4 addresses alone.
    pub fn ipv4_only(mut self) -> Self {
        self.families = Families::V4;
        self
    }

    /// Looks for IPv6 addresses alone.
    pub fn ipv6_only(mut self) -> Self {
        self.families = Families::V6;
        self
    }

    /// Believes DNS when it says that there are no endpoints.
    pub fn accept_empty(mut self) -> Self {
        self.accepts_empty = true;
        self
    }

    /// Tells `observer` of each new list, and of each failure. There is none unless said otherwise.
    pub fn observe(mut self, observer: impl Fn(&DiscoverEvent<'_>) + Send + Sync + 'static) -> Self {
        self.feed.observe(observer);
        self
    }

    /// Waits by `clock` instead of [`Clock::default`] until it asks again.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.feed.clock = clock;
        self
    }

    /// The endpoints that it keeps up to date while it [runs](Self::run).
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        self.feed.endpoints.clone()
    }

    /// Asks, and asks again when answers end, for ever. It needs a tokio runtime with its timers and sockets.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the endpoints stay as they are.
    pub async fn run(self) {
        let mut memory = Memory::default();
        let (mut lookups, mut failures) = (None, 0_u32);
        loop {
            let mut round = Round { accepts_empty: self.accepts_empty, ..Round::default() };
            if lookups.is_none() {
                match Lookups::new(&self.servers, self.timeout, self.families) {
                    Ok(new) => lookups = Some(new),
                    Err(error) => round.problems.push(error),
                }
            }
            if let Some(lookups) = &lookups {
                lookups.forget();
                let list = self.ask(lookups, &mut memory, &mut round).await;
                // What could not be had empties nothing: only an answer does, where that is believed.
                if !list.is_empty() || round.problems.is_empty() {
                    self.put(list);
                }
            }
            let lasts = |ttl: Duration| ttl.clamp(self.ttl.0, self.ttl.1);
            let wait = if round.problems.is_empty() {
                failures = 0;
                lasts(round.ttl.unwrap_or(self.ttl.1))
            } else {
                failures = failures.saturating_add(1);
                if self.servers.is_empty() {
                    // The system may name others by now.
                    lookups = None;
                }
                backoff(RETRY.0, RETRY.1, failures).min(round.ttl.map_or(Duration::MAX, lasts))
            };
            let wait = later_by_chance(wait);
            round.problems.iter().for_each(|problem| self.feed.failed(problem, Some(wait)));
            self.feed.clock.sleep(wait).await;
        }
    }

    /// The endpoints by what is answered now, and by what was before where it is not.
    async fn ask(&self, lookups: &Lookups, memory: &mut Memory, round: &mut Round) -> Vec<Endpoint> {
        let name = &self.feed.source;
        let targets = match self.what {
            What::Addresses(port) => vec![Target { priority: 0, weight: 1, port, host: name.clone() }],
            What::Services => memory.targets(lookups.targets(name).await, round),
        };
        let hosts: BTreeSet<&str> = targets.iter().map(|target| target.host.as_str()).collect();
        let families = lookups.families();
        let each = hosts.iter().flat_map(|&host| families.iter().map(move |&family| (host, family)));
        let asked: Vec<_> = each.map(|(host, family)| answer(lookups, host, family)).collect();
        let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);

        let mut found: BTreeMap<&str, Vec<(RecordType, Found<IpAddr>)>> = BTreeMap::new();
        let mut patience = pin!(None);
        loop {
            let next = poll_fn(|cx| match asked.poll_next_unpin(cx) {
                Poll::Pending => patience
                    .as_mut()
                    .as_pin_mut()
                    .map_or(Poll::Pending, |time_up: Pin<&mut Sleep>| time_up.poll(cx).map(|()| Next::Late)),
                Poll::Ready(next) => Poll::Ready(next.map_or(Next::End, Next::Answer)),
            });
            match next.await {
                Next::Answer((host, family, answer)) => {
                    if memory.learn(host, family, &answer) && patience.is_none() {
                        patience.set(Some(self.feed.clock.sleep(PATIENCE)));
                    }
                    found.entry(host).or_default().push((family, answer));
                }
                Next::Late => {
                    patience.set(None);
                    let of_each = hosts.iter().map(|host| memory.known(host, families));
                    let known: BTreeMap<&str, Vec<IpAddr>> = hosts.iter().copied().zip(of_each).collect();
                    // In the place of a list comes none that lacks a host for want of an answer.
                    if known.values().all(|known| !known.is_empty()) || self.feed.endpoints.list().is_empty()
                    {
                        self.put(endpoints(&targets, &known));
                    }
                }
                Next::End => break,
            }
        }

        let mut addresses = BTreeMap::new();
        for (host, mut found) in found {
            found.sort_by_key(|(family, _)| *family != RecordType::A);
            addresses.insert(host, memory.addresses(host, found, round));
        }
        memory.retain(|host| addresses.contains_key(host));
        endpoints(&targets, &addresses)
    }

    fn put(&self, list: Vec<Endpoint>) {
        if let Err(error) = self.feed.put(list) {
            self.feed.failed(&error, None);
        }
    }
}

/// What comes next in a round.
enum Next<T> {
    Answer(T),
    /// Some answers are there, and others are not.
    Late,
    End,
}

async fn answer<'a>(
    lookups: &Lookups,
    host: &'a str,
    family: RecordType,
) -> (&'a str, RecordType, Found<IpAddr>) {
    (host, family, lookups.addresses(host, family).await)
}

fn endpoints(targets: &[Target], addresses: &BTreeMap<&str, Vec<IpAddr>>) -> Vec<Endpoint> {
    let mut places: BTreeMap<SocketAddr, &Target> = BTreeMap::new();
    for target in targets {
        for &address in &addresses[target.host.as_str()] {
            places.entry(SocketAddr::new(address, target.port)).or_insert(target);
        }
    }
    let endpoint = |(place, target): (SocketAddr, &Target)| {
        Endpoint::new(place.to_string())
            .with_weight(target.weight)
            .with_priority(target.priority)
            .with_metadata("host", target.host.clone())
    };
    places.into_iter().map(endpoint).collect()
}

/// Up to a tenth more.
fn later_by_chance(wait: Duration) -> Duration {
    let chance = draw() >> 32;
    wait.saturating_add(wait.mul_f64(0.1 * chance as f64 / 2_f64.powi(32)))
}
