//! WebSocket over HTTP/2 (RFC 8441) on the client's side, and as RFC 6455 has it on the upstream's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use buttress_core::draw;
use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};

use super::{Upgrades, is_websocket};
use crate::error::Unusable;

const KEY: HeaderName = SEC_WEBSOCKET_KEY;
const ACCEPT: HeaderName = SEC_WEBSOCKET_ACCEPT;

/// Makes of an extended CONNECT for a WebSocket the GET that asks for one; whether it was such a CONNECT.
pub(crate) fn make_get<B>(request: &mut Request<B>, upgrades: Upgrades) -> bool {
    let extensions = request.extensions();
    let asked =
        extensions.get::<Protocol>().is_some_and(|protocol| is_websocket(protocol.as_str().as_bytes()));
    let ours = asked
        && upgrades != Upgrades::None
        && request.version() == Version::HTTP_2
        && extensions.get::<OnUpgrade>().is_some();
    if ours {
        *request.method_mut() = Method::GET;
        // HTTP/2 has no need of it; the upstream proves by it that it speaks WebSocket.
        let key = [draw().to_ne_bytes(), draw().to_ne_bytes()].concat();
        let key = HeaderValue::try_from(STANDARD.encode(key)).expect("base64 is visible ASCII");
        request.headers_mut().insert(KEY, key);
    }
    ours
}

/// What the upstream must answer to the key of a request (RFC 6455 §4.2.2).
pub(super) fn accept(fields: &HeaderMap) -> Option<HeaderValue> {
    let proof = Sha1::new()
        .chain_update(fields.get(KEY)?)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    HeaderValue::try_from(STANDARD.encode(proof)).ok()
}

/// Makes of a 101 with the right proof the 200 that opens the tunnel over HTTP/2.
pub(super) fn make_ok<B>(response: &mut Response<B>, accept: &HeaderValue) -> Result<(), Unusable> {
    if response.headers_mut().remove(ACCEPT).as_ref() != Some(accept) {
        return Err(Unusable::Accept);
    }
    *response.status_mut() = StatusCode::OK;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_the_one_of_the_rfc() {
        let mut fields = HeaderMap::new();
        fields.insert(KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));

        assert_eq!(accept(&fields).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
