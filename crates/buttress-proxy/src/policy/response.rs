use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode, Version};
use http_body::Body;

use super::hop_by_hop::remove_hop_by_hop;
use super::length::settle_content_length;
use crate::error::Unusable;
use crate::fields::Fields;

/// Makes of an upstream's answer the answer that is handed on; whether the connection may serve another request.
pub(crate) fn forward_response<B: Body>(
    response: &mut Response<B>,
    options: &Fields,
) -> Result<bool, Unusable> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unusable::Upgrade);
    }
    let received = std::mem::replace(response.version_mut(), Version::HTTP_11);
    let ended = response.body().is_end_stream();

    let fields = response.headers_mut();
    let said = remove_hop_by_hop(fields);
    if said.other_coding {
        return Err(Unusable::Coding);
    }
    settle_content_length(fields, said.transfer_encoding);
    let to_the_close = !ended && !said.transfer_encoding && !fields.contains_key(CONTENT_LENGTH);
    if let Some(via) = &options.via {
        via.append(fields, received);
    }
    // An upstream of HTTP/1.0 cannot take a body whose length is not known, so it gets one request only.
    Ok(received == Version::HTTP_11 && !said.close && !to_the_close)
}
