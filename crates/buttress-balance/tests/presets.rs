//! Rings own the keys that their models own. (What the real nginx owns is asked in `nginx.rs`.)

use std::net::SocketAddr;
use std::num::NonZeroU32;

use buttress_balance::{ConsistentHash, HashRing, Hashing, Node, Order, Ring, jump};
use buttress_core::KeyPart;
use pingora_ketama::{Bucket, Continuum};

fn ring(preset: Ring, nodes: &[Node]) -> HashRing {
    ConsistentHash::ring().preset(preset).build(nodes).expect("these endpoints make a ring")
}

fn owner<'a>(ring: &'a HashRing, key: &str) -> &'a str {
    let owner = ring.pick(ring.hashing().of(key.as_bytes()), |_| true).expect("a ring has an owner");
    ring.nodes()[owner].name()
}

#[test]
fn an_nginx_ring_owns_what_pingora_ketama_owns_for_addresses_with_a_port() {
    let addresses: Vec<(SocketAddr, u32)> = (0..40)
        .map(|at| (SocketAddr::from(([10, 0, at / 7, at], 8000 + u16::from(at))), 1 + u32::from(at) % 5))
        .collect();
    let buckets: Vec<Bucket> =
        addresses.iter().map(|&(address, weight)| Bucket::new(address, weight)).collect();
    let ketama = Continuum::new(&buckets);
    let nodes: Vec<Node> =
        addresses.iter().map(|(address, weight)| Node::new(address.to_string()).weight(*weight)).collect();
    let ring = ring(Ring::NginxCrc32, &nodes);

    for key in (0..20_000).map(|number| format!("/item/{number}?v=3")) {
        let theirs = ketama.node(key.as_bytes()).expect("a ring has an owner");
        assert_eq!(owner(&ring, &key), theirs.to_string(), "{key}");
    }
}

#[test]
fn a_libketama_ring_owns_what_its_rule_says_by_hand() {
    // The servers and weights of libketama's own example, and owners by an implementation of its rule in Python.
    let weights = [600, 300, 200, 350, 1000, 800, 950, 100];
    let nodes: Vec<Node> = (1..)
        .zip(weights)
        .map(|(at, weight)| Node::new(format!("10.0.1.{at}:11211")).weight(weight))
        .collect();
    let ring = ring(Ring::LibketamaMd5, &nodes);

    // 44, 22, 14, 26, 74, 59, 70 and 7 digests of four points.
    assert_eq!(ring.points(), 1264);
    let owners: Vec<u8> =
        (0..40).map(|key| owner(&ring, &format!("key-{key}")).as_bytes()[7] - b'0').collect();
    assert_eq!(
        owners,
        [
            3, 3, 6, 1, 6, 7, 5, 7, 7, 3, 5, 7, 1, 6, 2, 7, 5, 7, 6, 7, 1, 7, 5, 4, 7, 1, 6, 7, 1, 5, 6, 6,
            1, 3, 6, 6, 5, 6, 3, 7
        ]
    );
}

#[test]
fn an_envoy_ring_owns_what_its_rule_says_by_hand() {
    // Owners by an implementation of Envoy's rule in Python with its xxhash.
    let nodes = [("10.0.0.1:443", 1), ("10.0.0.2:443", 2), ("10.0.0.3:443", 5)]
        .map(|(name, weight)| Node::new(name).weight(weight));
    let ring = ring(Ring::EnvoyXxh64, &nodes);

    assert_eq!(ring.points(), 1024);
    let owners: Vec<u8> =
        (0..40).map(|key| owner(&ring, &format!("key-{key}")).as_bytes()[7] - b'0').collect();
    assert_eq!(owners, ENVOY_OWNERS);
}

const ENVOY_OWNERS: [u8; 40] = [
    2, 2, 1, 3, 3, 3, 3, 2, 3, 2, 3, 1, 2, 3, 2, 2, 3, 3, 2, 2, 3, 3, 2, 3, 2, 1, 2, 3, 3, 3, 2, 1, 3, 2, 3,
    3, 1, 3, 2, 2,
];

#[test]
fn a_native_ring_owns_what_its_rule_says_by_hand() {
    // Owners by an implementation of our rule in Python with its xxhash.
    let nodes = [("10.0.0.1:443", 1), ("10.0.0.2:443", 2), ("10.0.0.3:443", 5)]
        .map(|(name, weight)| Node::new(name).weight(weight));
    let ring = ConsistentHash::ring().seed(7).build(&nodes).unwrap();

    let owners: Vec<u8> =
        (0..40).map(|key| owner(&ring, &format!("key-{key}")).as_bytes()[7] - b'0').collect();
    assert_eq!(owners, NATIVE_OWNERS);
}

const NATIVE_OWNERS: [u8; 40] = [
    3, 3, 3, 3, 3, 3, 2, 3, 2, 3, 3, 3, 2, 3, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 3, 2, 3, 3, 3, 3, 3, 1, 3,
    3, 3, 3, 1, 3,
];

#[test]
fn parts_of_a_key_are_joined_as_the_model_joins_them() {
    let hash = |hashing: Hashing, parts: &[&str]| {
        let mut sink = hashing.sink();
        parts.iter().for_each(|part| part.write(&mut sink));
        sink.finish()
    };
    let hashing = |preset| ring(preset, &[Node::new("a")]).hashing();

    // `hash "$a$b"` is one text.
    for preset in [Ring::NginxCrc32, Ring::LibketamaMd5] {
        let hashing = hashing(preset);
        assert_eq!(hash(hashing, &["/a", "b"]), hashing.of(b"/ab"));
    }

    // A list of hash policies is combined by a rotation.
    let envoy = hashing(Ring::EnvoyXxh64);
    assert_eq!(hash(envoy, &["/ab"]), envoy.of(b"/ab"));
    assert_eq!(hash(envoy, &["/a", "b"]), envoy.of(b"/a").rotate_left(1) ^ envoy.of(b"b"));

    // Ours keeps parts apart.
    for ours in [Hashing::xxh3(3), Hashing::sip([7; 16])] {
        assert_eq!(hash(ours, &["/ab"]), ours.of(b"/ab"));
        assert_ne!(hash(ours, &["/a", "b"]), ours.of(b"/ab"));
        assert_ne!(hash(ours, &["/a", "b"]), hash(ours, &["/", "ab"]));
    }
}

#[test]
fn a_secret_decides_who_owns_a_key_and_is_not_told() {
    let nodes: Vec<Node> = (0..10).map(|at| Node::new(at.to_string())).collect();
    let ring = |secret| ConsistentHash::ring().hash_by(Hashing::sip(secret)).build(&nodes).unwrap();
    let (one, same, other) = (ring([1; 16]), ring([1; 16]), ring([2; 16]));

    let keys: Vec<String> = (0..1000).map(|key| format!("key-{key}")).collect();
    assert!(keys.iter().all(|key| owner(&one, key) == owner(&same, key)));
    let moved = keys.iter().filter(|key| owner(&one, key) != owner(&other, key)).count();
    assert!((850..950).contains(&moved), "{moved} of 1000 keys have another owner by another secret");
    assert!(format!("{one:?}").contains("secret") && !format!("{one:?}").contains("72340172838076673"));
}

#[test]
fn jump_puts_keys_where_its_paper_does() {
    // By the paper's code in Python.
    let known = [
        (1, 1, 0),
        (42, 57, 43),
        (0xdead_10cc, 666, 361),
        (256, 1024, 520),
        (0, i32::MAX as u32, 0),
        (u64::MAX, u32::MAX, 2_680_453_518),
        (10_863_919_174_838_991, 11, 6),
        (2_016_238_256_797_177_309, 11, 3),
    ];
    for (hash, buckets, bucket) in known {
        assert_eq!(jump(hash, NonZeroU32::new(buckets).unwrap()), bucket);
    }
}

#[test]
fn jump_moves_keys_to_a_new_bucket_and_to_no_other() {
    let hashes = || (0..20_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for buckets in 1..30 {
        let (before, after) = (NonZeroU32::new(buckets).unwrap(), NonZeroU32::new(buckets + 1).unwrap());
        let mut moved = 0;
        for hash in hashes() {
            let (old, new) = (jump(hash, before), jump(hash, after));
            assert!(new == old || new == buckets);
            moved += u32::from(new != old);
        }
        let even = 20_000.0 / f64::from(buckets + 1);
        assert!((f64::from(moved) - even).abs() < 5.0 * even.sqrt(), "{moved} moved to bucket {buckets}");
    }
}
