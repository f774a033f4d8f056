use std::borrow::Cow;

use buttress_core::Name;

/// What picks a plan or a limit among several: its name, its index in the order they were given, or an option of these,
/// where `None` is the first.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a plan or a limit",
    note = "it is named by a `&'static str`, a `String` or another text, by its index as a `usize`, or by an `Option` \
            of these"
)]
pub trait Pick {
    /// Its index among `names`; `None` when it is not there.
    fn find(self, names: &[Name]) -> Option<usize>;
}

impl Pick for usize {
    #[inline]
    fn find(self, names: &[Name]) -> Option<usize> {
        (self < names.len()).then_some(self)
    }
}

impl<N: Pick> Pick for Option<N> {
    #[inline]
    fn find(self, names: &[Name]) -> Option<usize> {
        self.map_or(Some(0), |name| name.find(names))
    }
}

macro_rules! texts {
    ($($text:ty),*) => {$(
        impl Pick for $text {
            #[inline]
            fn find(self, names: &[Name]) -> Option<usize> {
                let text: &str = &self;
                names.iter().position(|name| name.as_str() == text)
            }
        }
    )*};
}

texts!(&str, String, Box<str>, Cow<'_, str>, Name);
