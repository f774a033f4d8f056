use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Method};

use crate::Name;

/// Says which state a request is counted against: whose budget, whose breaker, whose endpoint.
///
/// A key writes its bytes into a sink, so that nothing is allocated on the way: the limiter's sink hashes, the
/// one of a shared store keeps the bytes. HTTP keys (`client_ip`, `header`, …) are in `buttress_http::key`.
///
/// A closure that gives an optional [`KeyPart`] is a key. Its argument needs its type written out:
///
/// ```
/// use buttress_core::Key;
/// use http::Request;
///
/// let tenant = |req: &Request<String>| req.headers().get("x-tenant").cloned();
/// # fn check<K: Key<Request<String>>>(_: K) {}
/// # check(tenant);
/// # check((tenant, |req: &Request<String>| Some(req.method().clone())));
/// ```
///
/// A tuple of keys is the key of all of them together. It costs the most that any of them asks; 1, which is what a key
/// asks that has nothing to say on cost, gives way to every other cost, 0 among them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key of `{Req}`",
    note = "a closure is a key when its argument's type is written out and it gives an optional part: \
            `|req: &Request<Body>| req.headers().get(\"x-api-key\").cloned()`"
)]
pub trait Key<Req> {
    /// Writes the key of `req` into `to`; `false` when the request has none.
    fn key<K: KeySink>(&self, req: &Req, to: &mut K) -> bool;

    /// How many units the request costs, 1 unless said otherwise.
    fn cost(&self, req: &Req) -> u32 {
        let _ = req;
        1
    }
}

/// Where a [`Key`] writes itself.
pub trait KeySink {
    /// Takes one part. Parts are kept apart: `"a", "bc"` is another key than `"ab", "c"`.
    fn bytes(&mut self, part: &[u8]);

    /// Takes one part of a width that its type fixes (a number, an address), for sinks that are faster there.
    #[inline]
    fn fixed<const N: usize>(&mut self, part: [u8; N]) {
        self.bytes(&part);
    }
}

/// A value that a key can be made of.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key",
    note = "parts are numbers, `bool`, `char`, IP and socket addresses, strings, byte strings, `HeaderValue`, `Method`, \
            `Authority`, and tuples, options and references of these"
)]
pub trait KeyPart {
    /// Writes the value into `to`.
    fn write<K: KeySink>(&self, to: &mut K);
}

impl<Req, F, P> Key<Req> for F
where
    F: Fn(&Req) -> Option<P>,
    P: KeyPart,
{
    #[inline]
    fn key<K: KeySink>(&self, req: &Req, to: &mut K) -> bool {
        match self(req) {
            Some(part) => {
                part.write(to);
                true
            }
            None => false,
        }
    }
}

/// One state for all requests: the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct Global;

impl<Req> Key<Req> for Global {
    #[inline]
    fn key<K: KeySink>(&self, _: &Req, _: &mut K) -> bool {
        true
    }
}

/// No part at all: the key of requests without one, where a value has to be given.
impl KeyPart for Global {
    #[inline]
    fn write<K: KeySink>(&self, _: &mut K) {}
}

/// A key with the cost of each request, by a closure.
#[derive(Clone, Copy)]
pub struct Costed<K, F> {
    key: K,
    cost: F,
}

impl<K, F> Costed<K, F> {
    /// Lets `cost` say what each request costs; its argument needs its type written out.
    pub const fn new(key: K, cost: F) -> Self {
        Self { key, cost }
    }
}

impl<Req, Inner, F> Key<Req> for Costed<Inner, F>
where
    Inner: Key<Req>,
    F: Fn(&Req) -> u32,
{
    #[inline]
    fn key<K: KeySink>(&self, req: &Req, to: &mut K) -> bool {
        self.key.key(req, to)
    }

    #[inline]
    fn cost(&self, req: &Req) -> u32 {
        (self.cost)(req)
    }
}

impl<K: fmt::Debug, F> fmt::Debug for Costed<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Costed").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The cost of two keys together: 1 is the cost of those that say nothing.
const fn dearer(one: u32, other: u32) -> u32 {
    if one == 1 || (other != 1 && other > one) { other } else { one }
}

/// Hashes a key to 64 bits, with seeds that are drawn once per process.
///
/// Parts of fixed width are folded in by one wide multiplication each, as foldhash and wyhash do; byte strings go
/// through SipHash-1-3, since a client can choose these at will. Two keys with one hash share one state; a client
/// that does not know the seeds cannot aim for it.
#[derive(Clone)]
pub struct HashSink {
    state: u64,
    seeds: HashSeeds,
}

/// The seeds of this process, for whoever makes a [`HashSink`] on every call.
#[derive(Clone, Copy)]
pub struct HashSeeds(&'static Seeds);

struct Seeds {
    start: u64,
    /// One for each width of a part, and that of 0 for byte strings, so that an IPv4 address is not a `u64` that
    /// looks like it.
    widths: [u64; 17],
    last: u64,
    sip: RandomState,
}

impl HashSeeds {
    /// Draws the seeds, or finds those that were drawn before.
    #[inline]
    #[must_use]
    pub fn get() -> Self {
        static SEEDS: OnceLock<Seeds> = OnceLock::new();
        Self(SEEDS.get_or_init(|| {
            let sip = RandomState::new();
            let widths = std::array::from_fn(|width| sip.hash_one(width));
            Seeds { start: sip.hash_one("start"), widths, last: sip.hash_one("last"), sip }
        }))
    }
}

impl HashSink {
    /// Begins an empty key.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self::with(HashSeeds::get())
    }

    /// Begins an empty key with seeds that are at hand.
    #[inline]
    #[must_use]
    pub const fn with(seeds: HashSeeds) -> Self {
        Self { state: seeds.0.start, seeds }
    }

    /// The hash of what was written.
    #[inline]
    #[must_use]
    pub const fn finish(self) -> u64 {
        fold(self.state, self.seeds.0.last)
    }
}

/// Multiplies to 128 bits and folds the halves onto each other, so that each bit of the result depends on all.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> u64::BITS) as u64
}

impl Default for HashSink {
    fn default() -> Self {
        Self::new()
    }
}

impl KeySink for HashSink {
    #[inline]
    fn bytes(&mut self, part: &[u8]) {
        let mut sip = self.seeds.0.sip.build_hasher();
        sip.write(part);
        self.state = fold(self.state ^ sip.finish(), self.seeds.0.widths[0]);
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, part: [u8; N]) {
        const { assert!(N <= 16, "parts wider than 16 bytes go through `bytes`") };
        let mut all = [0; 16];
        all[..N].copy_from_slice(&part);
        let all = u128::from_le_bytes(all);
        let (low, high) = (all as u64, (all >> u64::BITS) as u64);
        self.state = fold(self.state ^ low, self.seeds.0.widths[N] ^ high);
    }
}

impl fmt::Debug for HashSeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashSeeds").finish_non_exhaustive()
    }
}

impl fmt::Debug for HashSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashSink").finish_non_exhaustive()
    }
}

/// Keeps the bytes themselves, each part behind its length, as a shared store needs them.
impl KeySink for Vec<u8> {
    fn bytes(&mut self, part: &[u8]) {
        let length = u32::try_from(part.len()).expect("a key part is shorter than 4 GiB");
        self.extend_from_slice(&length.to_be_bytes());
        self.extend_from_slice(part);
    }
}

macro_rules! parts {
    ($($int:ty),*) => {$(
        impl KeyPart for $int {
            #[inline]
            fn write<K: KeySink>(&self, to: &mut K) {
                to.fixed(self.to_be_bytes());
            }
        }
    )*};
    (as bytes: $($text:ty),*) => {$(
        impl KeyPart for $text {
            #[inline]
            fn write<K: KeySink>(&self, to: &mut K) {
                to.bytes(self.as_ref());
            }
        }
    )*};
    (tuple: $($name:ident)*) => {
        impl<$($name: KeyPart),*> KeyPart for ($($name,)*) {
            #[inline]
            fn write<Sink: KeySink>(&self, to: &mut Sink) {
                #[expect(non_snake_case, reason = "the names of the types serve as those of the values")]
                let ($($name,)*) = self;
                $($name.write(to);)*
            }
        }

        impl<Req, $($name: Key<Req>),*> Key<Req> for ($($name,)*) {
            #[inline]
            fn key<Sink: KeySink>(&self, req: &Req, to: &mut Sink) -> bool {
                #[expect(non_snake_case, reason = "the names of the types serve as those of the values")]
                let ($($name,)*) = self;
                $($name.key(req, to))&&*
            }

            #[inline]
            fn cost(&self, req: &Req) -> u32 {
                #[expect(non_snake_case, reason = "the names of the types serve as those of the values")]
                let ($($name,)*) = self;
                [$($name.cost(req)),*].into_iter().fold(1, dearer)
            }
        }
    };
}

parts!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);
parts!(as bytes: [u8], Vec<u8>, Bytes, HeaderValue);
parts!(tuple: A B);
parts!(tuple: A B C);
parts!(tuple: A B C D);

macro_rules! text_parts {
    ($($text:ty => $as_str:expr),* $(,)?) => {$(
        impl KeyPart for $text {
            #[inline]
            fn write<K: KeySink>(&self, to: &mut K) {
                let text: fn(&Self) -> &str = $as_str;
                to.bytes(text(self).as_bytes());
            }
        }
    )*};
}

text_parts! {
    str => |text| text,
    String => |text| text,
    Arc<str> => |text| text,
    Box<str> => |text| text,
    Cow<'_, str> => |text| text,
    Name => |text| text,
    Method => |method| method.as_str(),
    Authority => |authority| authority.as_str(),
}

impl KeyPart for bool {
    #[inline]
    fn write<K: KeySink>(&self, to: &mut K) {
        to.fixed([u8::from(*self)]);
    }
}

impl KeyPart for char {
    #[inline]
    fn write<K: KeySink>(&self, to: &mut K) {
        u32::from(*self).write(to);
    }
}

impl KeyPart for Ipv4Addr {
    #[inline]
    fn write<K: KeySink>(&self, to: &mut K) {
        to.fixed(self.octets());
    }
}

impl KeyPart for Ipv6Addr {
    #[inline]
    fn write<K: KeySink>(&self, to: &mut K) {
        to.fixed(self.octets());
    }
}

impl KeyPart for IpAddr {
    #[inline]
    fn write<K: KeySink>(&self, to: &mut K) {
        match self {
            Self::V4(ip) => ip.write(to),
            Self::V6(ip) => ip.write(to),
        }
    }
}

impl KeyPart for SocketAddr {
    #[inline]
    fn write<K: KeySink>(&self, to: &mut K) {
        self.ip().write(to);
        self.port().write(to);
    }
}

impl<P: KeyPart + ?Sized> KeyPart for &P {
    #[inline]
    fn write<K: KeySink>(&self, to: &mut K) {
        (**self).write(to);
    }
}

impl<P: KeyPart> KeyPart for Option<P> {
    #[inline]
    fn write<K: KeySink>(&self, to: &mut K) {
        self.is_some().write(to);
        if let Some(part) = self {
            part.write(to);
        }
    }
}
