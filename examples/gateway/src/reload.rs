//! The configuration is read again on SIGHUP, and when one of its files has changed.
//!
//! Files are looked at by name, through links: an editor that renames a new file into place and a volume of Kubernetes whose link
//! is turned are changes as any other. What is found is taken once it has stayed the same for a while, so that a file
//! is not read while it is written.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use buttress::Clock;

use crate::{config::Config, print::note, signals::HangUps, watch::Watch};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// A file that is followed.
pub(crate) struct Followed {
    path: PathBuf,
    /// As it was when it was last read, or a little before.
    taken: Stamp,
}

impl Followed {
    /// To be made before the file is read: what is written into it from here on is a change.
    pub(crate) fn new(path: PathBuf) -> Self {
        let taken = stamp(&path);
        Self { path, taken }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Follows a file, for as long as the future lives, and hands each configuration that is right to `apply`. One that is wrong
/// changes nothing, and the log says why.
pub(crate) async fn follow(
    file: Followed,
    mut hang_ups: HangUps,
    watch: Watch,
    mut apply: impl FnMut(&Config),
) {
    let Followed { path, mut taken } = file;
    let clock = Clock::default();
    let mut seen = taken;
    loop {
        let asked = tokio::select! {
            () = hang_ups.next() => true,
            () = clock.sleep(EVERY) => false,
        };
        let now = aside(&path, stamp).await;
        let settled = now == seen;
        seen = now;
        if !asked && (now == taken || !settled) {
            continue;
        }
        if asked {
            // The log that has been moved away, perhaps.
            watch.reopen_log();
        }
        taken = now;
        let config = aside(&path, Config::load).await.map_err(|problem| problem.to_string());
        // The file of its log may be one that cannot be written.
        let config = config.and_then(|config| match watch.take(&config) {
            Ok(()) => Ok(config),
            Err(error) => Err(error.to_string()),
        });
        watch.reloaded(config.is_ok());
        match config {
            Ok(config) => {
                apply(&config);
                note(format_args!("{}: in force", path.display()));
            }
            Err(problem) => note(format_args!("error: {problem}; the configuration stays as it was")),
        }
    }
}

/// Does what may block where that holds nobody up.
async fn aside<T: Send + 'static>(path: &Path, what: fn(&Path) -> T) -> T {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || what(&path)).await.expect("reading a file does not panic")
}

/// What tells one state of a file from another: when it was written, its length, and which file it is.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len(), number(&file)))
}

#[cfg(unix)]
fn number(file: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(file)
}

#[cfg(not(unix))]
fn number(_: &std::fs::Metadata) -> u64 {
    0
}
