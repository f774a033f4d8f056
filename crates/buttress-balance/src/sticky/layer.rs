use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Endpoints, Name, OnCall, Strict, Wrap};
use tower_layer::Layer;

use super::attributes::Attributes;
use super::state::{Setup, State};
use super::table::Signing;
use super::value::Secret;
use super::{SameSite, Sticky, StickyError, StickyEvent, StickyHandle};

/// Keeps each client at the endpoint that served it first, by a cookie: for servers that keep sessions to themselves.
///
/// It stands directly above the balancer. A request whose cookie stands for an endpoint is bound to it
/// ([`Facts::prefer`](buttress_core::Facts)), and the balancer sends it there if that endpoint can serve. When the answer comes from
/// another one than the cookie says, or there was no cookie, the answer sets it.
///
/// ```
/// use buttress_balance::StickyLayer;
/// use buttress_core::{Endpoint, Endpoints, EndpointsError};
///
/// # fn main() -> Result<(), EndpointsError> {
/// # let (secret, former) = ([1; 32], [2; 32]);
/// let endpoints = Endpoints::new(["10.0.0.1:80", "10.0.0.2:80"].map(Endpoint::new))?;
/// let layer = StickyLayer::cookie("SERVERID")
///     .key(secret)
///     .former_key(former)
///     .over(&endpoints);
/// # let _: StickyLayer = layer;
/// # Ok(())
/// # }
/// ```
///
/// # The cookie
///
/// `Set-Cookie: SERVERID=ZE_HVH6AF7dCU-nvd9ycyGKG; Path=/; HttpOnly; Secure; SameSite=Lax`
///
/// The value is a MAC of the endpoint's name: a client can neither read the name nor make the value of another endpoint. It
/// is the same for all clients of an endpoint, and says nothing of them. With [`former_key`](StickyKeys::former_key) a cookie that
/// was signed by the key before still holds, and is signed anew. A value that stands for no endpoint counts as absent; it is
/// never an error. Values are made when the list of endpoints changes, and looked up when a request comes. Of several good ones, as
/// a browser sends where the path or the domain was changed, the first counts whose endpoint can serve.
///
/// | setting | default | why |
/// |---|---|---|
/// | `HttpOnly` | on, always | no script has a use for it |
/// | `Secure` | on | over plain HTTP it can be read on the way; [`insecure`](Self::insecure) is for development |
/// | `SameSite` | `Lax` | what browsers take where none is said, said aloud |
/// | `Path` | `/` | one session for the whole site |
/// | `Domain` | none | the host alone, none below it |
/// | `Max-Age` | none | the cookie ends with the browser's session |
/// | `survive_drain` | off | a draining endpoint is empty soonest |
/// | `no_cache` | off | as in HAProxy, see below |
/// | `pool` | the empty name | most keys serve one pool |
///
/// # Caches
///
/// An answer that sets a cookie may still be stored by a shared cache (RFC 9111, section 7.3), which then binds all its clients to one
/// endpoint. Where a cache stands before this layer, either strip `Set-Cookie` from what it stores, or say
/// [`no_cache`](Self::no_cache): as HAProxy's `nocache`, it adds `Cache-Control: private` to the answers that set the cookie,
/// and to no others. It is off unless asked for, since clients that keep no cookies would be told so with each answer.
///
/// # What it costs
///
/// A request gets [`Facts`](buttress_core::Facts) with a trail, some allocations in all, and the balancer's note on it. An answer
/// that sets the cookie clones a value that is there.
///
/// # Where it stands
///
/// Below retries and hedges: each attempt then has a trail of its own, and the answer sets the cookie of the endpoint that
/// gave it. An attempt that has been at the bound endpoint before goes elsewhere, since the balancer heeds
/// [`Facts::tried`](buttress_core::Facts). Above a hedge it binds the client to the endpoint that was tried last, unless the balancer
/// [marks](crate::Balancer::mark_endpoint) the answers with theirs.
///
/// # When something else is better
///
/// Where a key is at hand (a user's id, a session's), consistent hashing keeps it at one endpoint without a cookie, and
/// spreads keys evenly. Best of all are servers that share their sessions.
///
/// The layer is its own builder, and holds the counts: a clone shares them. Every step begins new counts.
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct StickyLayer(Arc<State>);

/// A sticky cookie that has a name, and needs a key: see [`StickyLayer::cookie`].
#[derive(Clone, Debug)]
#[must_use = "it needs a key and endpoints"]
pub struct StickyCookie(String);

/// A sticky cookie that has a name and a key, and needs to know the endpoints: see [`StickyLayer::cookie`].
#[derive(Clone)]
#[must_use = "it needs endpoints"]
pub struct StickyKeys {
    name: String,
    secret: Secret,
    former: Option<Secret>,
}

impl StickyLayer {
    /// Keeps clients by a cookie of this name; `SERVERID` is usual.
    ///
    /// [`key`](StickyCookie::key) and [`over`](StickyKeys::over) make it a layer, which refuses a name that is none.
    pub fn cookie(name: impl Into<String>) -> StickyCookie {
        StickyCookie(name.into())
    }
}

impl StickyCookie {
    /// Signs the cookie with this secret, of 32 random bytes at least: `openssl rand -hex 32` makes one. All processes that
    /// serve a client need the same.
    ///
    /// # Panics
    ///
    /// When [`try_key`](Self::try_key) fails.
    #[track_caller]
    pub fn key(self, secret: impl AsRef<[u8]>) -> StickyKeys {
        self.try_key(secret).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`key`](Self::key), for a secret that comes from a configuration.
    ///
    /// # Errors
    ///
    /// When the secret is shorter than 32 bytes.
    pub fn try_key(self, secret: impl AsRef<[u8]>) -> Result<StickyKeys, StickyError> {
        Ok(StickyKeys { name: self.0, secret: Secret::new(secret.as_ref())?, former: None })
    }
}

impl StickyKeys {
    /// Takes cookies that this secret has signed too, and gives new ones for them.
    ///
    /// To change the key without moving anyone, go in three steps, each everywhere before the next: let the new one be taken
    /// (`key(present).former_key(new)`), sign with it (`key(new).former_key(present)`), and when all clients have been here
    /// leave the present one out. In one step, a process that has the new key signs what one that has not yet does not know.
    ///
    /// # Panics
    ///
    /// When [`try_former_key`](Self::try_former_key) fails.
    #[track_caller]
    pub fn former_key(self, secret: impl AsRef<[u8]>) -> Self {
        self.try_former_key(secret).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`former_key`](Self::former_key), for a secret that comes from a configuration.
    ///
    /// # Errors
    ///
    /// When the secret is shorter than 32 bytes.
    pub fn try_former_key(mut self, secret: impl AsRef<[u8]>) -> Result<Self, StickyError> {
        self.former = Some(Secret::new(secret.as_ref())?);
        Ok(self)
    }

    /// The layer for the balancer of these endpoints, whose lists it follows.
    ///
    /// # Panics
    ///
    /// When [`try_over`](Self::try_over) fails.
    #[track_caller]
    pub fn over(self, endpoints: &Endpoints) -> StickyLayer {
        self.try_over(endpoints).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`over`](Self::over), for a name that comes from a configuration.
    ///
    /// # Errors
    ///
    /// When the cookie's name is not one.
    pub fn try_over(self, endpoints: &Endpoints) -> Result<StickyLayer, StickyError> {
        let Self { name, secret, former } = self;
        let signing = Signing {
            secret,
            former,
            pool: Name::from_static(""),
            attributes: Attributes::new(name),
            survive_drain: false,
        };
        let setup = Setup {
            name: Name::from_static("default"),
            signing,
            endpoints: endpoints.clone(),
            no_cache: false,
            observer: None,
        };
        Ok(StickyLayer(Arc::new(State::new(setup)?)))
    }
}

impl StickyLayer {
    /// Lets browsers keep the cookie so long from the answer that set it, in whole seconds; later answers do not renew it, so a
    /// client's session at one endpoint is bounded by it. Browsers take 400 days at most.
    ///
    /// # Panics
    ///
    /// When it is shorter than a second.
    #[track_caller]
    pub fn max_age(self, age: Duration) -> Self {
        self.attribute(|attributes| attributes.max_age = Some(age))
    }

    /// Lets browsers send the cookie with requests below this path alone.
    ///
    /// # Panics
    ///
    /// When it does not begin with `/`, or has a character that no cookie may have.
    #[track_caller]
    pub fn path(self, path: impl Into<String>) -> Self {
        self.attribute(|attributes| attributes.path = path.into())
    }

    /// Lets browsers send the cookie to this host and those below it.
    ///
    /// # Panics
    ///
    /// When it is not the name of a host.
    #[track_caller]
    pub fn domain(self, domain: impl Into<String>) -> Self {
        self.attribute(|attributes| attributes.domain = Some(domain.into()))
    }

    /// Says when browsers send the cookie with requests that come from another site.
    ///
    /// # Panics
    ///
    /// When it is [`SameSite::None`] and the cookie is not secure.
    #[track_caller]
    pub fn same_site(self, same_site: SameSite) -> Self {
        self.attribute(|attributes| attributes.same_site = same_site)
    }

    /// Lets browsers take the cookie over plain HTTP and send it there, where anyone on the way can read it: for
    /// development.
    ///
    /// # Panics
    ///
    /// When the name begins with `__Host-` or `__Secure-`, or the cookie is for other sites.
    #[track_caller]
    pub fn insecure(self) -> Self {
        self.attribute(|attributes| attributes.secure = false)
    }

    /// Makes the values those of this pool: endpoints of one name in two pools of one key have two values.
    pub fn pool(self, pool: impl Into<Name>) -> Self {
        self.restart(|setup| setup.signing.pool = pool.into())
    }

    /// Keeps clients at an endpoint that drains, or that has left the list and is still drained by the balancer, until it is gone: for
    /// sessions that would be lost with it. A balancer lets go of one that left with its last call, so drain an endpoint first and
    /// remove it later. Without it they go elsewhere from the next request on. New clients are never
    /// bound to one that drains. Of endpoints that left, the last 1024 are remembered.
    pub fn survive_drain(self) -> Self {
        self.restart(|setup| setup.signing.survive_drain = true)
    }

    /// Adds `Cache-Control: private` to answers that set the cookie, so that no shared cache stores them.
    pub fn no_cache(self) -> Self {
        self.restart(|setup| setup.no_cache = true)
    }

    /// Names the layer, in events. The default is `default`.
    pub fn named(self, name: impl Into<Name>) -> Self {
        self.restart(|setup| setup.name = name.into())
    }

    /// Tells `observer` of each client that is bound, moved or released, and of each cookie that is not known, in the task
    /// that makes the call, which waits for it.
    pub fn observe(self, observer: impl Fn(&StickyEvent<'_>) + Send + Sync + 'static) -> Self {
        self.restart(|setup| setup.observer = Some(Arc::new(observer)))
    }

    #[track_caller]
    fn attribute(self, change: impl FnOnce(&mut Attributes)) -> Self {
        self.restart(|setup| change(&mut setup.signing.attributes))
    }

    #[track_caller]
    fn restart(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.0.setup.clone();
        change(&mut setup);
        Self(Arc::new(State::new(setup).unwrap_or_else(|error| panic!("{error}"))))
    }

    /// Reads the counts that this layer shares with all its services.
    #[must_use]
    pub fn handle(&self) -> StickyHandle {
        StickyHandle(Arc::clone(&self.0))
    }

    /// Lets `poll_ready` be the inner service's, see [`Strict`].
    #[must_use]
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<S> Wrap<S> for StickyLayer {
    type Service = Sticky<S>;

    fn wrap(&self, inner: S) -> Sticky<S> {
        Sticky::new(inner, Arc::clone(&self.0))
    }
}

impl<S> Layer<S> for StickyLayer {
    type Service = Sticky<OnCall<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

impl fmt::Debug for StickyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StickyLayer")
            .field("name", &self.0.setup.name)
            .field("cookie", &self.0.setup.signing.attributes)
            .field("survive_drain", &self.0.setup.signing.survive_drain)
            .field("no_cache", &self.0.setup.no_cache)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StickyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StickyKeys").field("name", &self.name).finish_non_exhaustive()
    }
}
