use std::fmt::Write;
use std::time::Duration;

use http::HeaderValue;

use super::StickyError;
use super::value::Value;

/// When browsers send the cookie with requests that another site made them send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SameSite {
    /// Never.
    Strict,
    /// When the user follows a link: the default.
    #[default]
    Lax,
    /// Always, as a service in the frames of other sites needs. Browsers take it from a secure cookie alone.
    None,
}

impl SameSite {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// The name of the cookie, and all that is said of it besides its value (RFC 6265, section 4.1).
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: Option<String>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) same_site: SameSite,
    pub(crate) secure: bool,
}

impl Attributes {
    pub(crate) fn new(name: String) -> Self {
        let same_site = SameSite::default();
        Self { name, path: "/".into(), domain: None, max_age: None, same_site, secure: true }
    }

    pub(crate) fn check(&self) -> Result<(), StickyError> {
        let Self { name, path, domain, max_age, same_site, secure } = self;
        let wrong = |field, value: &str, rule| Err(StickyError::attribute(field, value, rule));
        if name.is_empty() || !name.bytes().all(is_token) {
            return wrong(
                "name",
                name,
                "must be a token: letters, digits and the like, no spaces and no `=` or `;`",
            );
        }
        if !path.starts_with('/') || !path.bytes().all(is_attribute) {
            return wrong("path", path, "must begin with `/` and be ASCII without `;`");
        }
        if let Some(domain) = domain
            && (domain.is_empty()
                || !domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)))
        {
            return wrong("domain", domain, "must be the name of a host");
        }
        if let Some(age) = max_age
            && age.as_secs() == 0
        {
            return wrong(
                "max_age",
                &format!("{age:?}"),
                "must be a second at least, or browsers drop it at once",
            );
        }
        if *same_site == SameSite::None && !secure {
            return wrong("same_site", "None", "needs a secure cookie, or browsers drop it");
        }
        // RFC 6265bis, section 4.1.3.
        let begins =
            |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if begins("__Host-") && !(*secure && path == "/" && domain.is_none()) {
            return wrong("name", name, "`__Host-` needs a secure cookie of the path `/` without a domain");
        }
        if begins("__Secure-") && !secure {
            return wrong("name", name, "`__Secure-` needs a secure cookie");
        }
        Ok(())
    }

    /// The field that sets the cookie to `value`.
    pub(crate) fn set_cookie(&self, value: &Value) -> HeaderValue {
        let mut text = format!("{}={}; Path={}", self.name, value.as_str(), self.path);
        if let Some(domain) = &self.domain {
            write!(text, "; Domain={domain}").expect("a text takes all");
        }
        if let Some(age) = self.max_age {
            write!(text, "; Max-Age={}", age.as_secs()).expect("a text takes all");
        }
        text.push_str("; HttpOnly");
        if self.secure {
            text.push_str("; Secure");
        }
        write!(text, "; SameSite={}", self.same_site.as_str()).expect("a text takes all");
        let mut field = HeaderValue::try_from(text).expect("each part was checked");
        // Proxies on the way shall not keep it in their compression tables (RFC 7541, section 7.1.3).
        field.set_sensitive(true);
        field
    }
}

/// RFC 9110, section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

const fn is_attribute(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b';'
}
