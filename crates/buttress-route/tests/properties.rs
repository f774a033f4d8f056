//! The router against an oracle that looks at each route in turn.

use std::cmp::Reverse;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};

use buttress_route::{BuildError, Route, Router, ambiguity};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;
use tower::Service;

/// Answers with its number.
#[derive(Clone)]
struct Number(usize);

impl Service<Request<()>> for Number {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let mut response = Response::new(Full::default());
        response.headers_mut().insert("x-number", HeaderValue::from(self.0));
        ready(Ok(response))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(&'static str),
    Param,
    Rest,
}

/// A condition: its name, and its value if it asks for one.
type Condition = Option<(&'static str, Option<&'static str>)>;

#[derive(Clone, Debug)]
struct Spec {
    host: Option<&'static str>,
    path: Vec<Segment>,
    methods: Vec<Method>,
    header: Condition,
    query: Condition,
    cookie: Condition,
}

#[derive(Clone, Debug)]
struct Asked {
    host: Option<&'static str>,
    path: Vec<&'static str>,
    method: Method,
    /// The value of `x`, and that of `y`.
    header: [Option<&'static str>; 2],
    query: [Option<&'static str>; 2],
    cookie: [Option<&'static str>; 2],
}

const NAMES: [&str; 2] = ["x", "y"];

impl Spec {
    fn route(&self) -> Route {
        let mut path = String::new();
        for (at, segment) in self.path.iter().enumerate() {
            path += "/";
            match segment {
                Segment::Literal(text) => path += text,
                Segment::Param => path += &format!("{{p{at}}}"),
                Segment::Rest => path += "{*rest}",
            }
        }
        let mut route = match &self.methods[..] {
            [] => Route::any(path),
            [first, more @ ..] => more.iter().cloned().fold(Route::method(first.clone(), path), Route::or),
        };
        if let Some(host) = self.host {
            route = route.host(host);
        }
        route = match self.header {
            None => route,
            Some((name, None)) => route.has_header(name),
            Some((name, Some(value))) => route.header(name, value),
        };
        route = match self.query {
            None => route,
            Some((name, None)) => route.has_query(name),
            Some((name, Some(value))) => route.query(name, value),
        };
        match self.cookie {
            None => route,
            Some((name, None)) => route.has_cookie(name),
            Some((name, Some(value))) => route.cookie(name, value),
        }
    }

    fn takes_host(&self, asked: &Asked) -> bool {
        self.host.is_none_or(|own| {
            asked.host.is_some_and(|host| match own.strip_prefix('*') {
                Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
                None => host == own,
            })
        })
    }

    fn takes_path(&self, asked: &Asked) -> bool {
        let rest = self.path.last() == Some(&Segment::Rest);
        let fixed = self.path.len() - usize::from(rest);
        let long_enough = if rest {
            asked.path.len() > fixed && !asked.path[fixed..].join("/").is_empty()
        } else {
            asked.path.len() == fixed
        };
        long_enough
            && self.path.iter().zip(&asked.path).all(|(segment, text)| match segment {
                Segment::Literal(literal) => literal == text,
                Segment::Param => !text.is_empty(),
                Segment::Rest => true,
            })
    }

    /// 0 where it names the method, 1 for HEAD by GET, 2 for any.
    fn takes_method(&self, method: &Method) -> Option<u8> {
        match () {
            () if self.methods.is_empty() => Some(2),
            () if self.methods.contains(method) => Some(0),
            () if *method == Method::HEAD && self.methods.contains(&Method::GET) => Some(1),
            () => None,
        }
    }

    fn meets(&self, asked: &Asked) -> bool {
        let all = [(self.header, asked.header), (self.query, asked.query), (self.cookie, asked.cookie)];
        all.iter().all(|(condition, asked)| {
            condition.is_none_or(|(name, value)| {
                let at = NAMES.iter().position(|known| *known == name).unwrap();
                asked[at].is_some_and(|asked| value.is_none_or(|value| value == asked))
            })
        })
    }

    /// The less, the more specific.
    fn order(&self, method: &Method) -> impl Ord + use<> {
        let host = match self.host {
            None => (2, Reverse(0)),
            Some(host) if host.starts_with('*') => (1, Reverse(host.split('.').count())),
            Some(_) => (0, Reverse(0)),
        };
        let path = self.path.clone();
        let all = [self.header, self.query, self.cookie];
        let counts = all.map(|condition| Reverse(condition.is_some()));
        let exact = all.iter().filter(|condition| matches!(condition, Some((_, Some(_))))).count();
        (host, path, self.takes_method(method), counts, Reverse(exact), all)
    }

    fn is_ambiguous_with(&self, other: &Self) -> bool {
        let methods = match (&self.methods[..], &other.methods[..]) {
            ([], []) => true,
            (one, two) => one.iter().any(|method| two.contains(method)),
        };
        let key = |spec: &Self| (spec.host, spec.path.clone(), spec.header, spec.query, spec.cookie);
        methods && key(self) == key(other)
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let host = select(&[None, None, Some("a.test"), Some("b.a.test"), Some("*.a.test"), Some("*.test")][..]);
    let segment = select(&[Segment::Literal("a"), Segment::Literal("b"), Segment::Param][..]);
    let end = select(&[None, None, Some(Segment::Rest), Some(Segment::Literal(""))][..]);
    let path = (vec(segment, 1..4), end).prop_map(|(mut path, end)| {
        path.extend(end);
        path
    });
    let methods = select(vec![
        vec![],
        vec![Method::GET],
        vec![Method::POST],
        vec![Method::HEAD],
        vec![Method::GET, Method::PUT],
        vec![Method::from_bytes(b"PURGE").unwrap()],
    ]);
    (host, path, methods, condition(), condition(), condition()).prop_map(
        |(host, path, methods, header, query, cookie)| Spec { host, path, methods, header, query, cookie },
    )
}

fn condition() -> impl Strategy<Value = Condition> {
    select(
        &[
            None,
            None,
            None,
            Some(("x", None)),
            Some(("x", Some("1"))),
            Some(("x", Some("2"))),
            Some(("y", Some("1"))),
        ][..],
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let host = select(
        &[None, Some("a.test"), Some("b.a.test"), Some("c.b.a.test"), Some("c.test"), Some("test")][..],
    );
    let path = vec(select(&["a", "b", "c", ""][..]), 1..5);
    let method = select(vec![
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::from_bytes(b"PURGE").unwrap(),
        Method::from_bytes(b"BAN").unwrap(),
    ]);
    let values = || [select(&[None, Some("1"), Some("2")][..]), select(&[None, Some("1"), Some("2")][..])];
    (host, path, method, values(), values(), values()).prop_map(
        |(host, path, method, header, query, cookie)| Asked { host, path, method, header, query, cookie },
    )
}

impl Asked {
    fn request(&self) -> Request<()> {
        let pairs = |values: &[Option<&'static str>; 2]| -> Vec<String> {
            NAMES
                .iter()
                .zip(values)
                .filter_map(|(name, value)| Some(format!("{name}={}", (*value)?)))
                .collect()
        };
        let path = format!("/{}?{}", self.path.join("/"), pairs(&self.query).join("&"));
        let mut request = Request::builder().method(&self.method).uri(path);
        if let Some(host) = self.host {
            request = request.header("host", host);
        }
        for (name, value) in
            NAMES.iter().zip(&self.header).filter_map(|(name, value)| Some((name, (*value)?)))
        {
            request = request.header(*name, value);
        }
        for pair in pairs(&self.cookie) {
            request = request.header("cookie", pair);
        }
        request.body(()).unwrap()
    }
}

/// What the router does: the number of the route, or the status with the methods it allows.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Took(usize),
    Allows(Vec<Method>),
    Nothing,
}

fn oracle(specs: &[Spec], asked: &Asked) -> Did {
    let fits = |spec: &Spec| spec.takes_host(asked) && spec.takes_path(asked) && spec.meets(asked);
    let fitting: Vec<usize> = (0..specs.len()).filter(|&at| fits(&specs[at])).collect();
    let best = fitting
        .iter()
        .filter(|&&at| specs[at].takes_method(&asked.method).is_some())
        .min_by_key(|&&at| specs[at].order(&asked.method));
    if let Some(best) = best {
        return Did::Took(*best);
    }
    let mut allowed: Vec<Method> = fitting.iter().flat_map(|&at| specs[at].methods.clone()).collect();
    if allowed.contains(&Method::GET) {
        allowed.push(Method::HEAD);
    }
    allowed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    allowed.dedup();
    if allowed.is_empty() { Did::Nothing } else { Did::Allows(allowed) }
}

fn did(router: &Router<Number>, request: Request<()>) -> Did {
    let call = std::pin::pin!(router.clone().call(request));
    let Poll::Ready(Ok(response)) = call.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("all of it answers at once")
    };
    if let Some(number) = response.headers().get("x-number") {
        return Did::Took(number.to_str().unwrap().parse().unwrap());
    }
    match response.status().as_u16() {
        404 => Did::Nothing,
        405 => {
            let allow = response.headers()["allow"].to_str().unwrap();
            let mut allowed: Vec<Method> = allow.split(", ").map(|method| method.parse().unwrap()).collect();
            allowed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            Did::Allows(allowed)
        }
        status => panic!("{status}"),
    }
}

fn built<'a>(specs: impl IntoIterator<Item = (usize, &'a Spec)>) -> Result<Router<Number>, BuildError> {
    let builder = Router::builder().allow_ambiguous_paths();
    specs.into_iter().fold(builder, |builder, (at, spec)| builder.route(spec.route(), Number(at))).build()
}

/// Those that go together, the first of each ambiguous pair.
fn unambiguous(specs: Vec<Spec>) -> Vec<Spec> {
    let mut kept: Vec<Spec> = Vec::new();
    for spec in specs {
        if !kept.iter().any(|other| other.is_ambiguous_with(&spec)) {
            kept.push(spec);
        }
    }
    kept
}

proptest! {
    #![proptest_config(Config { cases: if std::env::var_os("BUTTRESS_FULL_PROPERTIES").is_some() { 100_000 } else { 512 }, ..Config::default() })]

    #[test]
    fn the_most_specific_of_all_routes_takes_a_request_whatever_the_order_of_insertion(
        specs in vec(spec(), 0..40).prop_map(unambiguous),
        asked in vec(asked(), 30),
        turn in any::<prop::sample::Index>(),
    ) {
        let forth = built(specs.iter().enumerate()).unwrap();
        let mut other: Vec<_> = specs.iter().enumerate().rev().collect();
        other.rotate_left(turn.index(specs.len().max(1)));
        let back = built(other).unwrap();

        for asked in asked {
            let expected = oracle(&specs, &asked);
            prop_assert_eq!(&did(&forth, asked.request()), &expected, "{:?}", asked);
            prop_assert_eq!(&did(&back, asked.request()), &expected, "{:?}", asked);
        }
    }

    #[test]
    fn every_ambiguous_pair_is_refused_and_nothing_else(specs in vec(spec(), 2..30)) {
        let pair = |names: [&str; 2]| {
            let at = |name: &str| specs.iter().filter(|spec| spec.route().to_string() == name).cloned().collect::<Vec<_>>();
            at(names[0]).iter().any(|one| at(names[1]).iter().any(|two| one.is_ambiguous_with(two)))
        };
        let ambiguous = (1..specs.len()).any(|at| specs[..at].iter().any(|other| other.is_ambiguous_with(&specs[at])));

        match built(specs.iter().enumerate()) {
            Ok(_) => prop_assert!(!ambiguous),
            Err(BuildError::Ambiguous { first, second, .. }) => prop_assert!(pair([&first, &second])),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn another_spelling_of_a_path_takes_the_same_route(
        specs in vec(spec(), 0..20).prop_map(unambiguous),
        asked in asked(),
        encoded in vec(any::<bool>(), 64),
    ) {
        let router = built(specs.iter().enumerate()).unwrap();
        let request = asked.request();
        let mut spelled = request.clone();
        let mut flips = encoded.into_iter().cycle();
        let path: String = request.uri().path().chars().map(|char| {
            if char != '/' && flips.next() == Some(true) { format!("%{:02x}", char as u32) } else { char.to_string() }
        }).collect();
        *spelled.uri_mut() = format!("{path}?{}", request.uri().query().unwrap_or_default()).parse().unwrap();

        prop_assert_eq!(did(&router, spelled), did(&router, request));
    }

    #[test]
    fn no_path_or_host_is_too_odd(
        specs in vec(spec(), 0..20).prop_map(unambiguous),
        path in "(/|[a-b%./\\\\;{}]|%2[eEfF]|%5[cC]|%[0-9a-f]{2}){0,40}",
        host in vec(any::<u8>(), 0..300),
    ) {
        let Ok(uri) = http::Uri::try_from(format!("/{path}")) else { return Ok(()) };
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        if let Ok(host) = HeaderValue::from_bytes(&host) {
            request.headers_mut().insert("host", host);
        }
        let strict = specs.iter().enumerate().fold(Router::builder(), |builder, (at, spec)| builder.route(spec.route(), Number(at)));
        let strict = strict.build().unwrap();
        let lax = built(specs.iter().enumerate()).unwrap();

        // What is taken by the strict one is what the other one takes.
        match ambiguity(request.uri().path()) {
            Some(_) => prop_assert!(strict.find(&request).is_none()),
            None => prop_assert_eq!(did(&strict, request.clone()), did(&lax, request.clone())),
        }
        let _ = did(&lax, request);
    }
}
