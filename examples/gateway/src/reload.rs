//! The configuration is read again on SIGHUP, and when one of its files has changed.
//!
//! Files are looked at by name, through links: an editor that renames a new file into place and a volume of Kubernetes whose link
//! is turned are changes as any other. What is found is taken once it has stayed the same for a while, so that a file
//! is not read while it is written.

use std::{
    fmt::Display,
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
    /// As it was when it was last looked at.
    seen: Stamp,
}

impl Followed {
    /// To be made before the file is read: what is written into it from here on is a change.
    pub(crate) fn new(path: PathBuf) -> Self {
        let taken = stamp(&path);
        Self { path, taken, seen: taken }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next configuration that is right. Of one that is wrong the log says why.
    pub(crate) async fn next(&mut self, hang_ups: &mut HangUps, watch: &Watch) -> Config {
        let clock = Clock::default();
        loop {
            let asked = tokio::select! {
                () = hang_ups.next() => true,
                () = clock.sleep(EVERY) => false,
            };
            let now = aside(&self.path, stamp).await;
            let settled = now == self.seen;
            self.seen = now;
            if asked || (now != self.taken && settled) {
                if asked {
                    // The log that has been moved away, perhaps.
                    watch.reopen_log();
                }
                self.taken = now;
                match aside(&self.path, Config::load).await {
                    Ok(config) => return config,
                    Err(problem) => stays(watch, problem),
                }
            }
        }
    }

    /// Says that the configuration is in force.
    pub(crate) fn is_in_force(&self, watch: &Watch) {
        watch.reloaded(true);
        note(format_args!("{}: in force", self.path.display()));
    }
}

/// Says why a configuration is not taken.
pub(crate) fn stays(watch: &Watch, why: impl Display) {
    watch.reloaded(false);
    note(format_args!("error: {why}; the configuration stays as it was"));
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
