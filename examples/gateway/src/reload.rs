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

/// The files of a configuration.
pub(crate) struct Followed {
    path: PathBuf,
    /// All of them, each as it was when it was last read, or a little before.
    taken: Vec<(PathBuf, Stamp)>,
    /// As they were when they were last looked at.
    seen: Vec<(PathBuf, Stamp)>,
}

impl Followed {
    /// Those of `config`, which was read from `path`.
    pub(crate) fn new(path: PathBuf, config: &Config) -> Self {
        Self { path, taken: config.files().to_vec(), seen: config.files().to_vec() }
    }

    /// Waits for the next configuration that is right. Of one that is wrong the log says why.
    pub(crate) async fn next(&mut self, hang_ups: &mut HangUps, watch: &Watch) -> Config {
        let clock = Clock::default();
        loop {
            let asked = tokio::select! {
                () = hang_ups.next() => true,
                () = clock.sleep(EVERY) => false,
            };
            let names: Vec<_> = self.taken.iter().map(|(name, _)| name.clone()).collect();
            let look = |name: PathBuf| (Stamp::of(&name), name);
            let now: Vec<_> =
                aside(move || names.into_iter().map(look).map(|(stamp, name)| (name, stamp)).collect()).await;
            let settled = now == self.seen;
            self.seen.clone_from(&now);
            if asked || (now != self.taken && settled) {
                if asked {
                    // The log that has been moved away, perhaps.
                    watch.reopen_log();
                }
                self.taken = now;
                let path = self.path.clone();
                match aside(move || Config::load(&path)).await {
                    Ok(config) => {
                        self.taken = config.files().to_vec();
                        self.seen.clone_from(&self.taken);
                        return config;
                    }
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
async fn aside<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.expect("reading a file does not panic")
}

/// What tells one state of a file from another: when it was written, its length, and which file it is. All the same where
/// there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stamp(Option<(SystemTime, u64, u64)>);

impl Stamp {
    pub(crate) fn of(path: &Path) -> Self {
        let stamp = |file: std::fs::Metadata| Some((file.modified().ok()?, file.len(), number(&file)));
        Self(std::fs::metadata(path).ok().and_then(stamp))
    }
}

#[cfg(unix)]
fn number(file: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(file)
}

#[cfg(not(unix))]
fn number(_: &std::fs::Metadata) -> u64 {
    0
}
