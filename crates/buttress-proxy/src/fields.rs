use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use buttress_http::key::Net;
use http::HeaderValue;
use http::header::HeaderName;

use crate::Proxy;
use crate::policy::{Via, is_node, quote_into};

/// What becomes of the fields of requests and answers.
impl<B> Proxy<B> {
    /// Whether the upstream gets the `Host` that the client asked for, or the upstream's own address. Default: the
    /// client's.
    ///
    /// The authority of an absolute-form target and of an HTTP/2 request counts as the client's `Host`.
    #[must_use]
    pub fn preserve_host(self, preserve: bool) -> Self {
        let host = if preserve { Host::Clients } else { Host::Upstreams };
        self.with(|options| options.fields.host = host)
    }

    /// Sends every request on with `host` as its `Host`: for an upstream that serves many sites and knows itself by
    /// another name than its address.
    ///
    /// It takes the place of [`preserve_host`](Self::preserve_host): the one called last counts.
    ///
    /// # Panics
    ///
    /// When `host` is not a host, with a port or without (RFC 9110 §7.2).
    #[must_use]
    pub fn fixed_host(self, host: &str) -> Self {
        let authority = host.parse::<http::uri::Authority>().ok();
        let sound = authority.is_some_and(|authority| !authority.host().is_empty() && !host.contains('@'));
        let value = HeaderValue::from_str(host).ok().filter(|_| sound);
        let value =
            value.unwrap_or_else(|| panic!("fixed_host: `{host}` is not a host, with a port or without"));
        self.with(|options| options.fields.host = Host::Fixed(value))
    }

    /// What happens to `X-Forwarded-For`, `-Proto` and `-Host`, and to `Forwarded` and `X-Real-IP`. Default:
    /// [`XForwarded::Keep`].
    ///
    /// The peer is the request's [`Peer`](buttress_http::Peer); where there is none the entry is `unknown`. The scheme
    /// is its [`Scheme`](crate::Scheme): `https` where the server says that the request came in by TLS.
    #[must_use]
    pub fn x_forwarded(self, mode: XForwarded) -> Self {
        self.with(|options| options.fields.x_forwarded = Forwarding::Same(mode))
    }

    /// [`Append`](XForwarded::Append)s for a peer in one of `nets`, which are the proxies in front, and
    /// [`Replace`](XForwarded::Replace)s for every other, and where the peer is not known.
    ///
    /// It takes the place of [`x_forwarded`](Self::x_forwarded): the one called last counts. With no networks at all
    /// it is `Replace`.
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network. Parse [`Net`]s for those that come from a file.
    #[must_use]
    pub fn x_forwarded_behind<N>(self, nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: fmt::Display>,
    {
        let parse = |net: N| net.try_into().unwrap_or_else(|error| panic!("x_forwarded_behind: {error}"));
        let nets = nets.into_iter().map(parse).collect();
        self.with(|options| options.fields.x_forwarded = Forwarding::Behind(nets))
    }

    /// In which fields it is said on whose behalf a request comes. Default: [`ForwardedFields::XForwarded`].
    ///
    /// Whether what came is kept, continued or removed is [`x_forwarded`](Self::x_forwarded)'s to say, for all of them.
    #[must_use]
    pub fn forwarded_fields(self, fields: ForwardedFields) -> Self {
        self.with(|options| options.fields.forwarded_fields = fields)
    }

    /// Names in `Forwarded` the interface by which requests came in, as `by=`. Default: none, which tells an upstream
    /// nothing about the network in front of it.
    ///
    /// `node` is an address with or without a port (`[2001:db8::1]:443`), `unknown`, or a name of one's own that
    /// begins with `_` (RFC 7239 §6.3).
    ///
    /// # Panics
    ///
    /// When `node` is none of these.
    #[must_use]
    pub fn forwarded_by(self, node: &str) -> Self {
        assert!(is_node(node), "forwarded_by: `{node}` is no address, and no name that begins with `_`");
        let mut quoted = String::new();
        quote_into(&mut quoted, node);
        self.with(|options| options.fields.forwarded_by = Some(quoted.into()))
    }

    /// The name of this proxy in `Via`, in requests and in answers. Default: `buttress`.
    ///
    /// By it a loop is found: see [`max_passes`](Self::max_passes).
    ///
    /// # Panics
    ///
    /// When `name` is neither a token (RFC 9110 §5.6.2) nor a host with a port.
    #[must_use]
    pub fn via(self, name: &str) -> Self {
        let via = Via::new(name);
        assert!(via.is_some(), "via must be a token or a host with a port, not `{name}`");
        self.with(|options| options.fields.via = via)
    }

    /// Leaves `Via` as it came. RFC 9110 wants one in requests; some upstreams answer without compression when they
    /// see it. A loop is not found then.
    #[must_use]
    pub fn without_via(self) -> Self {
        self.with(|options| options.fields.via = None)
    }

    /// Refuses a request that has passed here `passes` times already, by the name that this proxy has in `Via`, with
    /// [`ErrorKind::Loop`](crate::ErrorKind::Loop). Default: 8.
    ///
    /// A route that leads back to the gateway would send a request round for ever. The name need not be unique, and
    /// by default it is not: two gateways one behind the other, or one that a service calls again, are no loop, so a
    /// few passes are allowed, and a loop ends after that many rounds. Where [`via`](Self::via) is a name that no other
    /// gateway has, and no request comes here twice, 1 ends a loop in its first round.
    ///
    /// # Panics
    ///
    /// When `passes` is zero: no request could be sent on.
    #[must_use]
    pub fn max_passes(self, passes: usize) -> Self {
        let passes = NonZeroUsize::new(passes).expect("max_passes must be at least 1");
        self.with(|options| options.fields.max_passes = passes)
    }

    /// How long the body of a request with `Expect: 100-continue` is held back for the upstream's word. Default: 1 s.
    ///
    /// The client is asked for its body when the upstream has asked for it (with 100), or has said nothing for
    /// `timeout`; one whose upstream answers something else sends no body in vain. To an upstream of HTTP/2 the body is
    /// sent at once. With zero the expectation is met here: the client is asked as soon as there is a connection to
    /// the upstream, which hears nothing of it.
    #[must_use]
    pub fn expect_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.fields.expect_timeout = timeout)
    }

    /// Leaves fields of answers behind that say more than clients need to know, such as `Server` and `X-Powered-By`.
    /// Default: none. Each call adds to the list.
    ///
    /// # Panics
    ///
    /// When one of `names` is no name of a field (RFC 9110 §5.1), or that of `Content-Length`.
    #[must_use]
    pub fn hide<N>(self, names: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<HeaderName, Error: fmt::Display>,
    {
        let parse = |name: N| name.try_into().unwrap_or_else(|error| panic!("hide: {error}"));
        let names: Vec<_> = names.into_iter().map(parse).collect();
        assert!(!names.contains(&http::header::CONTENT_LENGTH), "hide: an answer needs its content-length");
        self.with(|options| {
            options.fields.hidden = options.fields.hidden.iter().cloned().chain(names).collect();
        })
    }

    /// Leaves behind what tells clients which machine answers, and with what software. Default: it is sent on.
    ///
    /// | field of an answer | |
    /// |---|---|
    /// | `Server`, `X-Powered-By`, `X-AspNet-Version`, `X-AspNetMvc-Version` | removed |
    /// | `Via` | the entries of what stands behind this proxy are removed, ours stays |
    /// | `Alt-Svc` | removed: it would lead clients around the gateway |
    /// | `Location`, `Content-Location`, `Refresh` | where they name the upstream's own address, the path alone stays |
    ///
    /// Errors never tell an address to clients. A body is not looked at. What else an upstream says of itself,
    /// [`hide`](Self::hide) takes out.
    #[must_use]
    pub fn hide_upstream(self) -> Self {
        self.with(|options| options.fields.hide_upstream = true)
    }
}

/// What happens to the fields that say on whose behalf a request comes.
///
/// | | those that are [written](Proxy::forwarded_fields) | the others, and `X-Real-IP` |
/// |---|---|---|
/// | [`Keep`](Self::Keep) | sent on | sent on |
/// | [`Append`](Self::Append) | our entry is added at the end | sent on: the proxy in front answers for them |
/// | [`Replace`](Self::Replace) | ours alone | removed |
///
/// An upstream reads one of them: the one that the outermost proxy writes. Behind `Append` the last entry of one that is
/// not written here names the client of the proxy in front, not that proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum XForwarded {
    /// They are end-to-end fields like any other: what the client sent is sent on. The default, since only the
    /// operator knows whether a trusted proxy stands in front.
    #[default]
    Keep,
    /// The peer's address, scheme and host are appended to what the client sent. For a proxy behind another one;
    /// upstreams read the lists from the right.
    Append,
    /// What the client sent is removed first, `Forwarded` and `X-Real-IP` too. For the outermost proxy.
    Replace,
}

/// Which [`XForwarded`] a request gets.
#[derive(Clone, Debug)]
pub(crate) enum Forwarding {
    Same(XForwarded),
    /// `Append` for a peer in one of these networks, `Replace` for all others.
    Behind(Arc<[Net]>),
}

impl Forwarding {
    pub(crate) fn of(&self, peer: Option<IpAddr>) -> XForwarded {
        match self {
            Self::Same(mode) => *mode,
            Self::Behind(nets) => {
                let trusted = peer.is_some_and(|peer| nets.iter().any(|net| net.contains(peer)));
                if trusted { XForwarded::Append } else { XForwarded::Replace }
            }
        }
    }
}

/// The fields in which a proxy says on whose behalf a request comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardedFields {
    /// `X-Forwarded-For`, `-Proto` and `-Host`, which nearly every upstream reads: the default.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239): one field that says it all, with IPv6 addresses in brackets and quotes.
    Forwarded,
    /// All of them.
    Both,
}

/// Which `Host` an upstream gets.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    Clients,
    Upstreams,
    Fixed(HeaderValue),
}

/// What is done with the fields of a message.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) host: Host,
    pub(crate) x_forwarded: Forwarding,
    pub(crate) forwarded_fields: ForwardedFields,
    /// In the form that it is written in.
    pub(crate) forwarded_by: Option<Box<str>>,
    pub(crate) via: Option<Via>,
    pub(crate) max_passes: NonZeroUsize,
    pub(crate) expect_timeout: Duration,
    pub(crate) hidden: Arc<[HeaderName]>,
    pub(crate) hide_upstream: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            host: Host::Clients,
            x_forwarded: Forwarding::Same(XForwarded::Keep),
            forwarded_fields: ForwardedFields::default(),
            forwarded_by: None,
            via: Some(Via::new("buttress").expect("the name is a token")),
            max_passes: NonZeroUsize::new(8).expect("8 is not zero"),
            expect_timeout: Duration::from_secs(1),
            hidden: Arc::default(),
            hide_upstream: false,
        }
    }
}
