use buttress_core::Endpoint;

use crate::hash::xxh3;

/// A part of all endpoints for one client to use, where there are so many that each client would hold connections to most of
/// them for little traffic.
///
/// Each client draws its own part by its seed: those endpoints whose names hash lowest with it (rendezvous hashing, gRPC's
/// A68). When one endpoint joins or leaves, at most one of the part changes, so connections stay. Clients need to know
/// nothing of each other; in return endpoints get as many clients as chance gives them: with `c` clients that choose `s` of
/// `n`, `c·s/n` on average, with a standard deviation of about its root. 20 or more endpoints for each client, and more clients than endpoints,
/// keep that small beside other differences.
///
/// A part is chosen of each priority, so that a spare priority stays one. Weights do not count: where they differ much,
/// take no subset, or one large enough.
///
/// ```
/// use buttress_balance::Subset;
/// use buttress_core::Endpoint;
///
/// let all: Vec<Endpoint> = (0..100).map(|n| Endpoint::new(format!("10.0.0.{n}:443"))).collect();
/// let seed = 0x5eed; // of this process: random, or a hash of its host's name
/// assert_eq!(Subset::rendezvous(20, seed).choose(&all).len(), 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subset {
    size: usize,
    seed: u64,
}

impl Subset {
    /// At most `size` endpoints of each priority, those that `seed` draws. 0 counts as 1: a client with no endpoint serves
    /// no one.
    #[must_use]
    pub const fn rendezvous(size: usize, seed: u64) -> Self {
        Self { size: if size == 0 { 1 } else { size }, seed }
    }

    /// The endpoints of this subset, in the order of the list.
    #[must_use]
    pub fn choose(&self, endpoints: &[Endpoint]) -> Vec<Endpoint> {
        let mut drawn: Vec<(u32, u64, &str, usize)> = endpoints
            .iter()
            .enumerate()
            .map(|(at, endpoint)| {
                let name = endpoint.name().as_str();
                (endpoint.priority(), xxh3(self.seed, name.as_bytes()), name, at)
            })
            .collect();
        // By name where two hash alike, so that the order of the list never matters.
        drawn.sort_unstable();
        let mut chosen: Vec<usize> = drawn
            .chunk_by(|one, next| one.0 == next.0)
            .flat_map(|priority| priority.iter().take(self.size).map(|draw| draw.3))
            .collect();
        chosen.sort_unstable();
        chosen.into_iter().map(|at| endpoints[at].clone()).collect()
    }
}
