//! Sets of methods.

use http::Method;

const ORDER: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// The bit of a method that has one; 0 for those of extensions.
pub(crate) const fn bit(method: &Method) -> u16 {
    match *method {
        Method::GET => 1,
        Method::HEAD => 1 << 1,
        Method::POST => 1 << 2,
        Method::PUT => 1 << 3,
        Method::PATCH => 1 << 4,
        Method::DELETE => 1 << 5,
        Method::OPTIONS => 1 << 6,
        Method::TRACE => 1 << 7,
        Method::CONNECT => 1 << 8,
        _ => 0,
    }
}

pub(crate) const GET: u16 = 1;
pub(crate) const HEAD: u16 = 1 << 1;
pub(crate) const ANY: u16 = u16::MAX;

/// Which methods a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Methods {
    pub(crate) mask: u16,
    pub(crate) others: Vec<Method>,
}

impl Methods {
    pub(crate) const fn any() -> Self {
        Self { mask: ANY, others: Vec::new() }
    }

    pub(crate) const fn is_any(&self) -> bool {
        self.mask == ANY
    }

    pub(crate) fn add(&mut self, method: Method) {
        match bit(&method) {
            0 if self.others.contains(&method) => {}
            0 => self.others.push(method),
            bit => self.mask |= bit,
        }
    }

    /// Each method of the set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Method> {
        let known = ORDER.iter().filter(|method| self.mask & bit(method) != 0);
        known.chain(self.others.iter())
    }

    /// Takes the methods of another set in, and HEAD where GET is one.
    pub(crate) fn allow(&mut self, more: &Self) {
        self.mask |= more.mask;
        if self.mask & GET != 0 {
            self.mask |= HEAD;
        }
        for method in &more.others {
            self.add(method.clone());
        }
    }
}

impl std::fmt::Display for Methods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, method) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")?;
        }
        Ok(())
    }
}
