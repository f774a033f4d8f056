//! All routes of a router, and which of them takes a request.
//!
//! The order of any two routes, in which the first difference counts:
//!
//! 1. the host: a name, then `*.` with more labels before fewer, then any;
//! 2. the path, in each segment from the left: a literal, then a parameter, then a rest;
//! 3. the method: named, then HEAD of a route that names GET, then any;
//! 4. more header conditions, then more of the query, of cookies, of the body; then more that ask for a value;
//! 5. the text of the conditions, so that it is never the order of insertion.
//!
//! 1 to 4 are those of the Gateway API (`HTTPRouteRule.matches`) for what both have.

use std::cmp::Reverse;
use std::collections::HashMap;

use http::Method;

use super::condition::{Conditions, Head, Json, Meets};
use super::host::{HostPattern, RequestHost};
use super::method::{self, Methods};
use super::template::Template;
use super::tree::{LONGEST_PATH, Ranges, Tree};

/// A route, with everything in it understood.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) host: HostPattern,
    pub(crate) template: Template,
    pub(crate) info: RouteInfo,
}

/// What is known of a route when a request comes.
#[derive(Debug)]
pub(crate) struct RouteInfo {
    pub(crate) path: Box<str>,
    pub(crate) host: Option<Box<str>>,
    pub(crate) names: Box<[Box<str>]>,
    pub(crate) methods: Methods,
    pub(crate) conditions: Conditions,
}

/// A way to a route. One that names GET has two: HEAD goes behind routes that name it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    mask: u16,
    conditional: bool,
    route: u32,
}

/// The entries of one path, a range of all. The first stands here, as mostly it is all there is.
#[derive(Clone, Copy, Debug, Default)]
struct Leaf {
    first: Entry,
    /// Which of the ranges, from 1; 0 where nothing ends.
    group: u32,
}

#[derive(Debug)]
pub(crate) struct Table {
    tree: Tree<Leaf>,
    entries: Vec<Entry>,
    /// The entries of each leaf behind its first one.
    groups: Vec<(u32, u32)>,
    routes: Vec<RouteInfo>,
}

/// Which route takes a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    Route(u32, Ranges),
    /// The body has to be read first.
    AskBody,
    None,
}

/// The roots of the tree: hosts by name, hosts by what is behind `*.`, and all hosts. A host is a literal below the first two.
const EXACT: u32 = 0;
const BELOW: u32 = 1;
const ANY: u32 = 2;

impl Table {
    /// The table of these routes, or two that take the same requests.
    pub(crate) fn new(parsed: Vec<Parsed>) -> Result<Self, (usize, usize)> {
        let mut tree = Tree::new(3);
        let mut routes = Vec::with_capacity(parsed.len());
        let mut entries = Vec::with_capacity(parsed.len());
        let mut taken = HashMap::new();
        for (at, Parsed { host, template, info }) in parsed.into_iter().enumerate() {
            let root = match host {
                HostPattern::Exact(host) => tree.insert_literal(EXACT, host.as_bytes()),
                HostPattern::Below(host) => tree.insert_literal(BELOW, host.as_bytes()),
                HostPattern::Any => ANY,
            };
            let node = tree.insert(root, &template.segments);
            let text = info.conditions.to_string();
            if info.methods.is_any() {
                taken.insert((node, text.clone(), None), at).map_or(Ok(()), |first| Err((first, at)))?;
            } else {
                for method in info.methods.iter() {
                    let key = (node, text.clone(), Some(method.clone()));
                    taken.insert(key, at).map_or(Ok(()), |first| Err((first, at)))?;
                }
            }
            let weight = Reverse(info.conditions.weight());
            let route = u32::try_from(at).expect("each route has a node, and those fit");
            let conditional = !info.conditions.is_empty();
            let mask = info.methods.mask;
            if mask & method::GET != 0 && mask & method::HEAD == 0 {
                let head = Entry { mask: method::HEAD, conditional, route };
                entries.push(((node, 1, weight, text.clone()), head));
            }
            let rank = if info.methods.is_any() { 2 } else { 0 };
            entries.push(((node, rank, weight, text), Entry { mask, conditional, route }));
            routes.push(info);
        }
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut from = 0;
        let mut groups = vec![(0, 0)];
        for group in entries.chunk_by(|(a, _), (b, _)| a.0 == b.0) {
            let to = from + u32::try_from(group.len()).expect("there are two entries for a route at most");
            let number = u32::try_from(groups.len()).expect("there are no more groups than entries");
            tree.set_leaf(group[0].0.0, Leaf { first: group[0].1, group: number });
            groups.push((from + 1, to));
            from = to;
        }
        let entries = entries.into_iter().map(|(_, entry)| entry).collect();
        Ok(Self { tree, entries, groups, routes })
    }

    pub(crate) fn route(&self, route: u32) -> &RouteInfo {
        &self.routes[route as usize]
    }

    /// The most specific of all routes that take the request.
    pub(crate) fn find(&self, head: Head<'_>, body: Json<'_>) -> Found {
        let bit = method::bit(head.method);
        let mut found = Found::None;
        self.leaves(head, &mut |leaf, ranges| {
            for entry in self.of_leaf(leaf) {
                if !self.takes(entry, bit, head.method) {
                    continue;
                }
                let meets = if entry.conditional {
                    self.route(entry.route).conditions.meets(head.uri, head.headers, body)
                } else {
                    Meets::Yes
                };
                found = match meets {
                    Meets::No => continue,
                    Meets::Yes => Found::Route(entry.route, *ranges),
                    Meets::AskBody => Found::AskBody,
                };
                return true;
            }
            false
        });
        found
    }

    /// The methods of the routes that would take the request if it had one of these. What they ask of the body is left out:
    /// it is not read for that.
    #[cold]
    pub(crate) fn allowed(&self, head: Head<'_>) -> Option<Methods> {
        let bit = method::bit(head.method);
        let mut allowed = Methods::default();
        let mut some = false;
        self.leaves(head, &mut |leaf, _| {
            for entry in self.of_leaf(leaf) {
                let RouteInfo { methods, conditions, .. } = self.route(entry.route);
                let meets = || conditions.meets(head.uri, head.headers, Json::Unread) != Meets::No;
                if !self.takes(entry, bit, head.method) && !methods.is_any() && meets() {
                    allowed.allow(methods);
                    some = true;
                }
            }
            false
        });
        // A route of this very method asks for something else: the method is not what is wrong with it.
        let other = !allowed.iter().any(|method| method == head.method);
        (some && other).then_some(allowed)
    }

    fn of_leaf(&self, Leaf { first, group }: Leaf) -> impl Iterator<Item = Entry> {
        let others = move || {
            let (from, to) = self.groups[group as usize];
            self.entries[from as usize..to as usize].iter().copied()
        };
        // Looked at only if the first does not do.
        (group != 0).then_some(first).into_iter().chain(std::iter::once_with(others).flatten())
    }

    fn takes(&self, entry: Entry, bit: u16, method: &Method) -> bool {
        match bit {
            0 => entry.mask == method::ANY || self.route(entry.route).methods.others.contains(method),
            bit => entry.mask & bit != 0,
        }
    }

    /// Shows what ends where the path does, from the most specific host and path on, until `take` has what it looks for.
    fn leaves(&self, head: Head<'_>, take: &mut impl FnMut(Leaf, &Ranges) -> bool) {
        let path = head.uri.path().as_bytes();
        // `*`, the empty path of CONNECT, and what is longer than `http` takes today.
        if path.first() != Some(&b'/') || path.len() > LONGEST_PATH {
            return;
        }
        let mut ranges = Ranges::default();
        let mut walk = |root: u32| self.tree.walk(root, path, 1, &mut ranges, take);
        let (exact, below) = (self.tree.has_literals(EXACT), self.tree.has_literals(BELOW));
        if (exact || below)
            && let Some(host) = RequestHost::of(head.uri, head.headers)
        {
            let host = host.as_bytes();
            if exact && self.tree.literal(EXACT, host).is_some_and(&mut walk) {
                return;
            }
            if below {
                for (dot, _) in host.iter().enumerate().filter(|&(at, &byte)| byte == b'.' && at > 0) {
                    if self.tree.literal(BELOW, &host[dot + 1..]).is_some_and(&mut walk) {
                        return;
                    }
                }
            }
        }
        walk(ANY);
    }
}
