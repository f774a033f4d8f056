//! Files that `gateway.toml` names: certificates and keys.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::reload::Stamp;

/// What reads them. Names are taken from the folder of `gateway.toml`.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    read: Vec<(PathBuf, Stamp)>,
}

impl Files {
    pub(super) fn beside(path: &Path) -> Self {
        Self { folder: path.parent().map(Path::to_owned).unwrap_or_default(), read: Vec::new() }
    }

    /// The bytes of the file called `name`.
    pub(super) fn read(&mut self, name: &Path) -> Result<Vec<u8>, String> {
        let path = self.folder.join(name);
        self.read_at(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    }

    pub(super) fn read_at(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // Before it is read: what is written into it from here on is a change.
        self.read.push((path.to_owned(), Stamp::of(path)));
        std::fs::read(path)
    }

    /// All that were read, each as it was a little before.
    pub(super) fn into_read(self) -> Vec<(PathBuf, Stamp)> {
        self.read
    }
}

/// What was made of files. Two of the same bytes are the same.
#[derive(Clone, Debug)]
pub(crate) struct Made<T> {
    of: Vec<Vec<u8>>,
    pub(crate) value: T,
}

impl<T> Made<T> {
    pub(super) fn new(of: Vec<Vec<u8>>, value: T) -> Self {
        Self { of, value }
    }
}

impl<T> PartialEq for Made<T> {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of
    }
}
