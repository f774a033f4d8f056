use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Clock, Name, OnCall, Strict, Wrap};
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::shadow::Shadow;
use super::state::{Rules, State};
use super::{Mirror, MirrorError, MirrorEvent, MirrorHandle, MirroredBody};
use crate::{Hashing, NoKey};

/// Sends a copy of requests to a second service and drops its answers: to try a new version with real traffic.
///
/// What the main service answers, and when, is the same whatever the mirror does: it may be dead, hang, panic or read slowly. Each
/// copy is carried by a tokio task of its own, beside the call.
///
/// ```
/// use buttress_balance::MirrorLayer;
/// use buttress_http::key;
/// # use std::convert::Infallible;
/// # use http::Response;
/// # use http_body_util::Empty;
/// # let next_version = tower::service_fn(|_: http::Request<buttress_balance::MirroredBody>| async {
/// #     Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
/// # });
/// # let stable = tower::service_fn(|_: http::Request<buttress_balance::TeeBody<Empty<bytes::Bytes>>>| async {
/// #     Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
/// # });
/// use tower::ServiceBuilder;
///
/// // All requests of one user in ten.
/// let mirror = MirrorLayer::new(next_version).sample(0.1).by(key::header("x-user-id")).shadow_host();
/// let handle = mirror.handle();
///
/// let service = ServiceBuilder::new().layer(mirror).service(stable);
/// # fn serves<S: tower::Service<http::Request<Empty<bytes::Bytes>>>>(_: &S) {}
/// # serves(&service);
/// assert_eq!(handle.counts().mirrored, 0);
/// ```
///
/// - The copy has the method, the target, the fields and the extensions of the request, without its
///   [`Facts`](buttress_core::Facts): deadline, attempts and trail are those of the main call. It is sent when the main
///   service has read the request's body to its end; one without a body is sent at once. A body that the main service leaves
///   half read, or a call that is dropped before that, has no copy.
/// - Once it is sent, it goes its own way: that the main call is dropped does not end it, only its time does.
/// - **All methods are mirrored**, as by Envoy and nginx. A mirror that shares a database with the main service carries out each
///   order twice: give it one of its own, or take [`safe_only`](Self::safe_only).
/// - Where a copy cannot be made, the request goes on without one, and that is counted by its reason
///   ([`NotMirrored`](crate::NotMirrored)). Requests that ask for a tunnel (CONNECT, `Upgrade`) have none, and attempts after the
///   first neither, by the [`Facts`](buttress_core::Facts) of a retry layer above. So a call is mirrored once at most, and not at all where
///   its first attempt ended before its body was read: above the retry layer it has its copy in any case.
///
/// | setting | default | why |
/// |---|---|---|
/// | `sample` | 1: all | |
/// | `by` | [`NoKey`]: chance | with a key, all requests of a user are mirrored or none |
/// | `in_flight` | 64 | with the next, 4 MiB of bodies at most |
/// | `body_limit` | 64 KiB | as what a retry layer keeps |
/// | `timeout` | 15 s, to the end of its answer | Envoy's for a route |
/// | `shadow_host` | off | the mirror may ask for the host |
/// | `safe_only` | off | see above |
/// | `clock` | [`Clock::default`] | |
///
/// # What it costs
///
/// A request that is not mirrored allocates nothing. One that is clones its head, and makes a task; its body is not copied
/// where it comes as [`Bytes`](bytes::Bytes) of 1 KiB or more, whose buffers live on until the mirror has read them; shorter ones are, since
/// each might hold a buffer that is much longer. The tasks run on the
/// threads of the runtime: a mirror that blocks one of them, as no asynchronous service may, blocks calls as well.
///
/// # When something else is better
///
/// To compare the answers, or where the copy must arrive, write requests to a log and replay that. To send a share of the
/// users to the new version for good, a [`Split`](crate::Split).
///
/// The layer is its own builder and holds the counts and the places: a clone shares them, and so do all services of one value.
/// Every step but [`by`](Self::by) begins new ones.
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct MirrorLayer<K = NoKey> {
    key: K,
    state: Arc<State>,
}

impl MirrorLayer {
    /// Sends copies to `mirror`, a clone of it for each.
    #[expect(clippy::missing_panics_doc, reason = "the rules that it begins with are good")]
    pub fn new<M, R>(mirror: M) -> Self
    where
        M: Service<Request<MirroredBody>, Response = Response<R>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        M::Error: Send,
        R: Body + Send + 'static,
    {
        let rules = Rules {
            name: Name::from_static("default"),
            clock: Clock::default(),
            hashing: Hashing::default(),
            sample: 1.0,
            seed: None,
            in_flight: 64,
            body_limit: 64 << 10,
            timeout: Duration::from_secs(15),
            safe_only: false,
            shadow_host: false,
            observer: None,
        };
        let state = State::new(rules, Arc::new(Shadow(Arc::new(mirror)))).expect("these rules are good");
        Self { key: NoKey, state: Arc::new(state) }
    }
}

impl<K> MirrorLayer<K> {
    /// Mirrors this share of the requests, from 0 to 1. [`MirrorHandle::set_sample`] changes it later.
    ///
    /// # Panics
    ///
    /// When it is not in that range, or not a number.
    #[track_caller]
    pub fn sample(self, share: f64) -> Self {
        self.restart(|rules| rules.sample = share)
    }

    /// Samples by key: of one key all requests are mirrored, or none. Requests without a key are sampled by chance.
    pub fn by<Other>(self, key: Other) -> MirrorLayer<Other> {
        MirrorLayer { key, state: self.state }
    }

    /// Hashes keys by `hashing`. Whatever it is, the sample has nothing to do with the sides of a [`Split`](crate::Split) or the
    /// endpoints of a ring by the same key.
    pub fn hash_by(self, hashing: Hashing) -> Self {
        self.restart(|rules| rules.hashing = hashing)
    }

    /// Begins chance with `seed`, so that a test sees the same sample again.
    pub fn seed(self, seed: u64) -> Self {
        self.restart(|rules| rules.seed = Some(seed))
    }

    /// Mirrors so many at a time: from the beginning of the request to the end of the mirror's answer. The `timeout` begins with the last
    /// byte of the request, so a request whose body stays open has its place for as long, up to `body_limit`: where many do, as
    /// streams of gRPC in both directions, do not mirror these.
    ///
    /// # Panics
    ///
    /// When it is 0.
    #[track_caller]
    pub fn in_flight(self, most: usize) -> Self {
        self.restart(|rules| rules.in_flight = most)
    }

    /// Mirrors requests whose body has so many bytes at most. With 0, those without a body alone.
    pub fn body_limit(self, bytes: usize) -> Self {
        self.restart(|rules| rules.body_limit = bytes)
    }

    /// Gives the mirror so long, from the copy's sending to the end of its answer.
    ///
    /// # Panics
    ///
    /// When it is zero.
    #[track_caller]
    pub fn timeout(self, time: Duration) -> Self {
        self.restart(|rules| rules.timeout = time)
    }

    /// Marks the copy: `-shadow` is appended to the host that it asks for, as Envoy does, in the URI's authority and in `Host`;
    /// the port stays. An IPv6 address is left as it is.
    ///
    /// It is for mirrors that are reached at a place of their own. A client that connects to the URI's authority would look
    /// for another host.
    pub fn shadow_host(self) -> Self {
        self.restart(|rules| rules.shadow_host = true)
    }

    /// Mirrors GET, HEAD, OPTIONS and TRACE alone, which ask for no change (RFC 9110, section 9.2.1).
    pub fn safe_only(self) -> Self {
        self.restart(|rules| rules.safe_only = true)
    }

    /// Names the layer, in events. The default is `default`.
    pub fn named(self, name: impl Into<Name>) -> Self {
        self.restart(|rules| rules.name = name.into())
    }

    /// Tells `observer` of each copy that is sent, is not sent, or has ended.
    pub fn observe(self, observer: impl Fn(&MirrorEvent<'_>) + Send + Sync + 'static) -> Self {
        self.restart(|rules| rules.observer = Some(Arc::new(observer)))
    }

    /// Reads the time from `clock` instead of [`Clock::default`].
    pub fn clock(self, clock: Clock) -> Self {
        self.restart(|rules| rules.clock = clock)
    }

    #[track_caller]
    fn restart(self, change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = self.state.rules.clone();
        change(&mut rules);
        let state = State::new(rules, Arc::clone(&self.state.shadow));
        Self { key: self.key, state: Arc::new(state.unwrap_or_else(|error: MirrorError| panic!("{error}"))) }
    }

    /// Reads and steers the state that this layer shares with all its services.
    #[must_use]
    pub fn handle(&self) -> MirrorHandle {
        MirrorHandle(Arc::clone(&self.state))
    }

    /// Lets `poll_ready` be the inner service's, see [`Strict`].
    #[must_use]
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<S, K: Clone> Wrap<S> for MirrorLayer<K> {
    type Service = Mirror<S, K>;

    fn wrap(&self, inner: S) -> Self::Service {
        Mirror::new(inner, self.key.clone(), Arc::clone(&self.state))
    }
}

impl<S, K: Clone> Layer<S> for MirrorLayer<K> {
    type Service = Mirror<OnCall<S>, K>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

impl<K> fmt::Debug for MirrorLayer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rules { name, sample, in_flight, body_limit, timeout, .. } = &self.state.rules;
        f.debug_struct("MirrorLayer")
            .field("name", name)
            .field("sample", sample)
            .field("in_flight", in_flight)
            .field("body_limit", body_limit)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}
