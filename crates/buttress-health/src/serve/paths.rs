//! Which path asks what.

use std::sync::Arc;

use crate::HealthPage;

/// The paths of each page.
#[derive(Clone, Debug)]
pub(crate) struct Paths(Arc<[(Box<str>, HealthPage)]>);

impl Paths {
    pub(crate) fn page(&self, path: &str) -> Option<HealthPage> {
        self.0.iter().find(|(known, _)| **known == *path).map(|(_, page)| *page)
    }

    /// With these paths for `page`, in place of those that it had.
    ///
    /// # Panics
    ///
    /// When one is no path, or is another page's.
    #[track_caller]
    pub(crate) fn with<P: AsRef<str>>(&self, page: HealthPage, paths: impl IntoIterator<Item = P>) -> Self {
        let mut all: Vec<_> = self.0.iter().filter(|(_, other)| *other != page).cloned().collect();
        for path in paths {
            let path = path.as_ref();
            let is_path = path.starts_with('/') && !path.contains(['?', '#', ' ', '{', '*']);
            assert!(is_path, "path `{path}`: it must begin with `/`, and be a path alone");
            let other = all.iter().find(|(known, other)| **known == *path && *other != page);
            assert!(
                other.is_none(),
                "path `{path}` is that of another page: give each page paths of its own"
            );
            all.push((path.into(), page));
        }
        Self(all.into())
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self([].into())
            .with(HealthPage::Live, ["/livez", "/health"])
            .with(HealthPage::Ready, ["/readyz", "/ready"])
            .with(HealthPage::Startup, ["/startupz"])
    }
}
