use std::time::UNIX_EPOCH;

use buttress_core::Clock;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, TlsErrorKind};

const FIELD: &str = "certificate";

/// What the certificate `der` holds; an error when its time is not now.
pub(crate) fn valid<'a>(der: &'a [u8], clock: &Clock) -> Result<X509Certificate<'a>, TlsError> {
    let certificate = parsed(der)?;
    let now = clock.wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let validity = certificate.validity();
    if now > validity.not_after.timestamp() {
        let detail = format!("has expired at {}", validity.not_after);
        return Err(TlsError::new(FIELD, TlsErrorKind::Expired, detail));
    }
    if now < validity.not_before.timestamp() {
        let detail = format!("is not valid before {}", validity.not_before);
        return Err(TlsError::new(FIELD, TlsErrorKind::NotYetValid, detail));
    }
    Ok(certificate)
}

pub(crate) fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, TlsError> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| TlsError::new(FIELD, TlsErrorKind::Invalid, format!("is no X.509: {error}")))?;
    Ok(certificate)
}
