//! Without HTTP/2 nobody asks by an extended CONNECT.

use http::{HeaderMap, HeaderValue, Request, Response};

use super::Upgrades;
use crate::error::Unusable;

pub(crate) const fn make_get<B>(_: &Request<B>, _: Upgrades) -> bool {
    false
}

pub(super) const fn accept(_: &HeaderMap) -> Option<HeaderValue> {
    None
}

pub(super) const fn make_ok<B>(_: &Response<B>, _: &HeaderValue) -> Result<(), Unusable> {
    Err(Unusable::Protocol)
}
