//! Lists of host names.

use std::collections::HashSet;
use std::net::IpAddr;

/// Host names, exact or with all that is below them.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    exact: HashSet<Box<str>>,
    /// Without the `*.`.
    below: HashSet<Box<str>>,
}

impl Hosts {
    /// # Panics
    ///
    /// When one of `names` is no host name and no address.
    pub(super) fn add(&mut self, option: &str, names: impl IntoIterator<Item = impl AsRef<str>>) {
        for name in names {
            let name = name.as_ref();
            let below = name.strip_prefix("*.");
            let host = normal(below.unwrap_or(name));
            assert!(
                is_sound(&host),
                "{option}: `{name}` must be a host name, `*.` and a host name, or an address"
            );
            if below.is_some() {
                self.below.insert(host.into())
            } else {
                self.exact.insert(host.into())
            };
        }
    }

    /// Whether `host`, as [`normal`] writes it, is on the list.
    pub(super) fn contain(&self, host: &str) -> bool {
        self.exact.contains(host)
            || host.match_indices('.').any(|(dot, _)| self.below.contains(&host[dot + 1..]))
    }
}

/// A host in one spelling: lower case, without the dot of the root, an address as it is written shortest and without its
/// brackets.
pub(super) fn normal(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => bare.to_ascii_lowercase(),
    }
}

/// Whether `host`, as [`normal`] writes it, is a name or an address. What is neither may be looked up as another name: a
/// resolver takes `name.` for `name`, and so would a second dot lead past a list.
pub(super) fn is_sound(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = || !host.split('.').any(str::is_empty) && host.bytes().all(plain);
    host.parse::<IpAddr>().is_ok() || name()
}
