use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{Key, Name, OnCall, OnCallFuture};
use tower_service::Service;

use super::state::{Setup, State, Weights};
use super::{NoOverride, Override, SplitError, SplitEvent, SplitHandle};
use crate::{Hashing, NoKey};

/// Sends each request to one of several services, by weight: a canary beside what is deployed, or blue beside green.
///
/// Which one is chosen by the hash of the request's key, so a user stays where it is, on every machine and over restarts,
/// until the weights change. When they do, it moves to a side only if the weight of that side grew against the weight of
/// the side where it was: from 5 % to 10 % users go to the canary, and none comes back. That is weighted rendezvous
/// hashing ([`Rendezvous`](crate::Rendezvous)) over the places of the sides; their order in the list is their name.
///
/// ```
/// use buttress_balance::Split;
/// # use std::convert::Infallible;
/// # #[cfg(feature = "http")] {
/// use buttress_http::key;
/// # use http::{Request, Response};
/// # use tower::util::BoxCloneSyncService;
/// # let serve = |text: &'static str| BoxCloneSyncService::new(tower::service_fn(move |_: Request<()>| async move {
/// #     Ok::<_, Infallible>(Response::new(text))
/// # }));
/// # let (stable, canary) = (serve("stable"), serve("canary"));
///
/// // One user in twenty gets the canary, always the same ones; who comes with `x-canary: always` gets it too.
/// let split = Split::new([(95, stable), (5, canary)])
///     .by(key::header("x-user-id"))
///     .override_header("x-canary", [("always", 1), ("never", 0)]);
/// let handle = split.handle();
///
/// // It does well: to 10 %, and then to all.
/// handle.set_weights([90, 10]).unwrap();
/// handle.set_weights([0, 100]).unwrap();
/// # fn serves<S: tower::Service<Request<()>, Response = Response<&'static str>>>(_: &S) {}
/// # serves(&split);
/// # }
/// ```
///
/// Blue and green are the same with weights of 100 and 0, and the way back is a line too:
///
/// ```
/// # fn main() -> Result<(), buttress_balance::SplitError> {
/// # let (blue, green) = ((), ());
/// let deployment = buttress_balance::Split::new([(100, blue), (0, green)]);
/// let handle = deployment.handle();
/// handle.set_weights([0, 100])?; // all to green, at once
/// handle.set_weights([100, 0])?; // and back
/// # Ok(())
/// # }
/// ```
///
/// | setting | default | why |
/// |---|---|---|
/// | `by` | [`NoKey`]: chance chooses for each request | what a user is, only you know |
/// | requests without a key | chance, by the weights | so shares are kept; [`first_without_key`](Self::first_without_key) sends them all to the first |
/// | `override_by` | none | |
/// | `hash_by` | [`Hashing::default`] | all processes agree |
/// | `seed` | by chance | |
/// | `named` | `default` | |
///
/// All sides are of one type; box them (`tower::util::BoxCloneSyncService`) where they are not. A clone of the split is one
/// of each side, and shares the weights and the counts. `poll_ready` is always ready: which side it would be about is known
/// with the request alone, so the chosen one is readied in the call, as [`OnCall`] does it. A call allocates nothing, a clone
/// once for the list. Dropped, a call is a dropped call of its side; the split holds nothing.
///
/// # When something else is better
///
/// - One of many alike, by load and health: a balancer.
/// - One of several that differ, by path or method: a router; `tower::steer` for two.
/// - Two splits by one key and one hashing are one: who is in the canary of the first is in that of the second. Give one of
///   them [`Hashing::xxh3`] with another seed where experiments are to be independent.
pub struct Split<S, K = NoKey, O = NoOverride> {
    sides: Vec<OnCall<S>>,
    key: K,
    said: O,
    state: Arc<State>,
}

impl<S> Split<S> {
    /// Splits between these services, each with its weight: 0 is no request, and others are parts of their sum.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(sides: impl IntoIterator<Item = (u32, S)>) -> Self {
        Self::try_new(sides).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`new`](Self::new), for weights that come from a configuration.
    ///
    /// # Errors
    ///
    /// When there is no side, when all weights are 0, or when they come to more than `u32::MAX`.
    pub fn try_new(sides: impl IntoIterator<Item = (u32, S)>) -> Result<Self, SplitError> {
        let (weights, sides): (Vec<u32>, _) =
            sides.into_iter().map(|(weight, service)| (weight, OnCall::new(service))).unzip();
        let setup = Setup {
            name: Name::from_static("default"),
            hashing: Hashing::default(),
            first_without_key: false,
            seed: None,
            observer: None,
        };
        let state = Arc::new(State::new(setup, Weights::new(weights)?));
        Ok(Self { sides, key: NoKey, said: NoOverride, state })
    }
}

impl<S, K, O> Split<S, K, O> {
    /// Keeps requests of one key on one side. Keys are `key::header("x-user-id")` and others, tuples of them, and closures
    /// `|req: &Request<Body>| -> Option<impl KeyPart>`.
    ///
    /// Take what stays the same for a user: not the address, where many share one or one has many.
    #[must_use]
    pub fn by<Other>(self, key: Other) -> Split<S, Other, O> {
        let Self { sides, said, state, .. } = self;
        Split { sides, key, said, state }
    }

    /// Lets `said` choose the side of a request first; where it says none, the key does. It may choose a side of weight 0.
    ///
    /// A client that may write what it looks at chooses for itself: strip the field at the edge where it must not.
    #[must_use]
    pub fn override_by<Other>(self, said: Other) -> Split<S, K, Other> {
        let Self { sides, key, state, .. } = self;
        Split { sides, key, said, state }
    }

    /// Lets the value of a header field choose the side first, as `x-canary: always` does with `[("always", 1)]`. See
    /// [`override_by`](Self::override_by).
    ///
    /// # Panics
    ///
    /// When `field` is not the name of a field, a value not one of a field, or a side one that there is not.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    #[track_caller]
    pub fn override_header(
        self,
        field: &str,
        sides: impl IntoIterator<Item = (&'static str, usize)>,
    ) -> Split<S, K, super::ByHeader> {
        let field = field.parse().unwrap_or_else(|error| panic!("override_header with {field:?}: {error}"));
        let count = self.sides.len();
        let sides = sides.into_iter().map(|(value, side)| {
            if side >= count {
                panic!("{}", SplitError::NoSuchSide { side, sides: count });
            }
            let value =
                value.parse().unwrap_or_else(|error| panic!("override_header with {value:?}: {error}"));
            (value, side)
        });
        let sides = sides.collect();
        self.override_by(super::ByHeader { field, sides })
    }

    /// Sends requests without a key to the first side that has a weight, instead of where chance says: the stable one, when
    /// that stands first. Begins new counts.
    #[must_use]
    pub fn first_without_key(self) -> Self {
        self.restart(|setup| setup.first_without_key = true)
    }

    /// Hashes keys by `hashing`: with a secret, or with a seed of another split's. Begins new counts.
    #[must_use]
    pub fn hash_by(self, hashing: Hashing) -> Self {
        self.restart(|setup| setup.hashing = hashing)
    }

    /// Begins chance with `seed`, so that a test sees the same choices again. Begins new counts.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.restart(|setup| setup.seed = Some(seed))
    }

    /// Names the split, in events. Begins new counts.
    #[must_use]
    pub fn named(self, name: impl Into<Name>) -> Self {
        self.restart(|setup| setup.name = name.into())
    }

    /// Tells `observer` of each choice and of each change of the weights, in the task that makes it, which waits. Begins new
    /// counts.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&SplitEvent<'_>) + Send + Sync + 'static) -> Self {
        self.restart(|setup| setup.observer = Some(Arc::new(observer)))
    }

    fn restart(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.state.setup.clone();
        change(&mut setup);
        let weights = Weights::new(self.state.weights().each.iter().copied());
        self.state = Arc::new(State::new(setup, weights.expect("they were good before")));
        self
    }

    /// Reads and steers this split and its clones.
    #[must_use]
    pub fn handle(&self) -> SplitHandle {
        SplitHandle(Arc::clone(&self.state))
    }
}

impl<S, K, O, Req> Service<Req> for Split<S, K, O>
where
    S: Service<Req> + Clone,
    K: Key<Req>,
    O: Override<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OnCallFuture<S, Req>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let side = self.state.choose(self.said.side(&req), || {
            let mut sink = self.state.setup.hashing.sink();
            self.key.key(&req, &mut sink).then(|| sink.finish())
        });
        self.sides[side].call(req)
    }
}

impl<S: Clone, K: Clone, O: Clone> Clone for Split<S, K, O> {
    fn clone(&self) -> Self {
        let Self { sides, key, said, state } = self;
        Self { sides: sides.clone(), key: key.clone(), said: said.clone(), state: Arc::clone(state) }
    }
}

impl<S: fmt::Debug, K, O> fmt::Debug for Split<S, K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("name", &self.state.setup.name)
            .field("weights", &self.state.weights().each)
            .field("sides", &self.sides)
            .finish_non_exhaustive()
    }
}
