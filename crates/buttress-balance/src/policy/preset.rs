use crate::hash::{upper, words};
use crate::{Hashing, Node};

/// Which rings exist elsewhere, and where their points are. No two of them own the same keys.
///
/// | preset | points of an endpoint | its name is | keys |
/// |---|---|---|---|
/// | `Native` | XXH3 of 0, 1, 2, … as 8 bytes little endian, seeded with the hash of its name | anything | [`Hashing`] as set |
/// | `NginxCrc32` | CRC32 of host, a zero byte, port and the point before it (4 bytes little endian, 0 at first) | the `server` as written in nginx' configuration | CRC32 |
/// | `EnvoyXxh64` | XXH64 of `name_0`, `name_1`, … | the address (`10.0.0.1:443`), host name or `hash_key` | XXH64 |
/// | `LibketamaMd5` | the four words of MD5 of `name-0`, `name-1`, … | `host:port` | the first word of MD5 |
///
/// Weights: 160 points for each unit with nginx, and so natively, unless [`points`](crate::RingRules::points) says
/// otherwise: one endpoint's points do not depend on the others, and a change moves no key that it need not. Envoy
/// scales the whole ring between two sizes, and libketama each endpoint by its share, so there a change moves keys of
/// others as well; take these two only to agree with what is deployed.
///
/// Sources: `ngx_http_upstream_hash_module.c` (nginx 1.31), `ring_hash_lb.cc` (Envoy; gRPC's A42 is the same with other
/// sizes), `ketama.c` (libketama). pingora-ketama has the points of `NginxCrc32` for IPv4 addresses with a port, and
/// for these alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ring {
    /// Ours: points of 64 bits, any hashing. The default, as it is the fastest to build and has no collisions to
    /// speak of.
    #[default]
    Native,
    /// The same owners as nginx' `hash $key consistent`, where no points collide: nginx lets the order of its
    /// configuration decide these, we the order of names. Endpoints are named as nginx has them after `server`:
    /// `10.0.0.1:443`, `[::1]:7777`, `127.0.0.1`, `backend1.example.com:8080`, `unix:/tmp/a.sock`.
    NginxCrc32,
    /// The same owners as Envoy's `ring_hash` with its default hash, and as gRPC's where the sizes are equal.
    EnvoyXxh64,
    /// The same owners as libketama and the many memcached clients that follow it.
    LibketamaMd5,
}

impl Ring {
    /// How keys are hashed on this ring.
    pub(crate) const fn hashing(self, native: Hashing) -> Hashing {
        match self {
            Self::Native => native,
            Self::NginxCrc32 => Hashing::crc32(),
            Self::EnvoyXxh64 => Hashing::xxh64(),
            Self::LibketamaMd5 => Hashing::md5(),
        }
    }

    /// Whether the points of an endpoint depend on that endpoint alone.
    pub(crate) const fn is_independent(self) -> bool {
        matches!(self, Self::Native | Self::NginxCrc32)
    }
}

/// The points of `name` on a native ring.
pub(crate) fn native(name: &str, hashing: Hashing) -> impl Iterator<Item = u64> {
    let seed = hashing.of(name.as_bytes());
    (0_u64..).map(move |point| crate::hash::xxh3(seed, &point.to_le_bytes()))
}

/// The points of a `server` in nginx.
pub(crate) fn nginx(server: &str) -> impl Iterator<Item = u64> {
    let (host, port) = host_and_port(server);
    let mut base = crc32fast::Hasher::new();
    base.update(host.as_bytes());
    base.update(&[0]);
    base.update(port.as_bytes());
    let mut before = 0_u32;
    std::iter::repeat_with(move || {
        let mut hasher = base.clone();
        hasher.update(&before.to_le_bytes());
        before = hasher.finalize();
        upper(before)
    })
}

/// nginx cuts the digits behind the last colon off, whatever is before it, and `unix:` in any case.
fn host_and_port(server: &str) -> (&str, &str) {
    if let Some((scheme, path)) = server.split_at_checked(5)
        && scheme.eq_ignore_ascii_case("unix:")
    {
        return (path, "");
    }
    match server.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (server, ""),
    }
}

/// The points of a host in Envoy.
pub(crate) fn envoy(name: &str) -> impl Iterator<Item = u64> {
    numbered(name, '_').map(|text| twox_hash::XxHash64::oneshot(0, &text))
}

/// The points of a server in libketama, four of each digest.
pub(crate) fn libketama(name: &str) -> impl Iterator<Item = u64> {
    numbered(name, '-').flat_map(|text| words(md5::compute(&text)).map(upper))
}

/// `name`, `mark` and 0, 1, 2, …
fn numbered(name: &str, mark: char) -> impl Iterator<Item = Vec<u8>> {
    (0_u64..).map(move |number| format!("{name}{mark}{number}").into_bytes())
}

/// How many points each of `nodes` has in Envoy, which are in order of their names and of weights above 0.
///
/// The ring gets so large that the lightest host has a whole number of points. The others may have parts of one left over,
/// which a running sum carries to the next.
pub(crate) fn envoy_counts(nodes: &[&Node], least: u32, largest: u32) -> Vec<u64> {
    let total: u64 = nodes.iter().map(|node| u64::from(node.share())).sum();
    let part = |node: &Node| f64::from(node.share()) / total as f64;
    let lightest = nodes.iter().map(|node| part(node)).fold(1.0, f64::min);
    let scale = ((lightest * f64::from(least)).ceil() / lightest).min(f64::from(largest));
    let (mut have, mut want) = (0_u64, 0.0);
    nodes
        .iter()
        .map(|node| {
            want += scale * part(node);
            let mut count = 0;
            while (have as f64) < want && have < u64::from(largest) {
                have += 1;
                count += 1;
            }
            count
        })
        .collect()
}

/// How many points each of `nodes` has in libketama: four for each of 40 digests, times its share of the even one, in
/// the single precision that the original reckons in.
pub(crate) fn libketama_counts(nodes: &[&Node]) -> Vec<u64> {
    let total: u64 = nodes.iter().map(|node| u64::from(node.share())).sum();
    nodes
        .iter()
        .map(|node| {
            let share = node.share() as f32 / total as f32;
            let digests = (f64::from(share) * 40.0 * f64::from(nodes.len() as f32)) as f32;
            4 * digests.floor() as u64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first<const N: usize>(points: impl Iterator<Item = u64>) -> [u64; N] {
        points.take(N).collect::<Vec<_>>().try_into().expect("points have no end")
    }

    /// The first points of a `server`, of which the ring takes the upper half.
    fn nginx32<const N: usize>(server: &str) -> [u64; N] {
        first(nginx(server).map(|point| point >> u32::BITS))
    }

    #[test]
    fn points_of_nginx_are_at_their_published_places() {
        assert_eq!(nginx32("10.0.0.1:443"), [0xea18_5c25, 0xda96_47c2, 0x0294_f7bb]);
        assert_eq!(nginx32("10.0.0.1"), [0xe2f1_fe40, 0x851c_ab0f, 0x141a_7665]);
        assert_eq!(nginx32("[::1]:7777"), [0x370c_d7c4, 0x52ed_6723, 0xa6a6_b7c8]);
        assert_eq!(nginx32("unix:/tmp/a.sock"), [0xca7e_b1df, 0xbad8_f3e1, 0x716a_4f8e]);
        assert_eq!(nginx32("UNIX:/tmp/a.sock"), nginx32::<3>("unix:/tmp/a.sock"));
        assert_eq!(nginx32("backend1.example.com:8080"), [0x6639_a35c, 0x9689_b9a8, 0xd744_425a]);
    }

    #[test]
    fn a_port_is_what_follows_the_last_colon_in_digits() {
        assert_eq!(host_and_port("[::1]"), ("[::1]", ""));
        assert_eq!(host_and_port("[::1]:80"), ("[::1]", "80"));
        assert_eq!(host_and_port("host:"), ("host", ""));
        assert_eq!(host_and_port("host:http"), ("host:http", ""));
        assert_eq!(host_and_port("unix:"), ("", ""));
        assert_eq!(host_and_port("größe"), ("größe", ""));
    }

    #[test]
    fn points_of_envoy_are_at_their_published_places() {
        assert_eq!(first(envoy("10.0.0.1:443")), [0x1d65_05e9_abee_d0b3, 0xee2c_29ec_2e58_680a]);
    }

    #[test]
    fn points_of_libketama_are_the_words_of_the_digests() {
        let points = first(libketama("10.0.1.1:11211").map(|point| point >> u32::BITS));
        assert_eq!(points, KETAMA);
    }

    /// What `md5sum` makes of `10.0.1.1:11211-0` and `-1`, read as little endian words.
    const KETAMA: [u64; 8] = [
        0x90ed_8713,
        0xf5ce_3b03,
        0x0603_86a6,
        0xa22b_367d,
        0xac2f_66bb,
        0xd7e2_cd0b,
        0x3f93_0cc3,
        0xccf9_f53c,
    ];

    #[test]
    fn native_points_stay_where_they_are() {
        assert_eq!(
            first(native("10.0.0.1:443", Hashing::default())),
            [0xa557ae8201dbbfc8, 0x7fe064d058cb7211]
        );
    }

    #[test]
    fn a_ring_of_envoy_gives_the_lightest_host_a_whole_number_of_points() {
        let nodes = |weights: &[u32]| -> Vec<Node> {
            weights
                .iter()
                .enumerate()
                .map(|(at, &weight)| Node::new(format!("{at}")).weight(weight))
                .collect()
        };
        let counts = |weights: &[u32], least, largest| {
            let nodes = nodes(weights);
            envoy_counts(&nodes.iter().collect::<Vec<_>>(), least, largest)
        };
        assert_eq!(counts(&[1; 3], 1024, 8_388_608), [342; 3]);
        assert_eq!(counts(&[1, 2, 5], 1024, 8_388_608), [128, 256, 640]);
        // The example in Envoy's source: a part of a point left over goes to the next.
        assert_eq!(counts(&[1; 4], 1, 6), [1, 1, 1, 1]);
        assert_eq!(counts(&[1; 4], 6, 6), [2, 1, 2, 1]);
        assert_eq!(counts(&[1, u32::MAX], 1024, 4096).iter().sum::<u64>(), 4096);
    }
}
