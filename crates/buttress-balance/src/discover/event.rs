use std::error::Error;
use std::time::Duration;

use buttress_core::Name;

/// What a source of endpoints tells its observer, in the task that runs the source, which waits for it.
///
/// ```
/// use buttress_balance::discover::DiscoverEvent;
///
/// let log = |event: &DiscoverEvent<'_>| match event {
///     DiscoverEvent::Changed { source, endpoints, .. } => eprintln!("{source} has {endpoints} endpoints now"),
///     DiscoverEvent::Failed { source, error, endpoints, .. } => {
///         eprintln!("{source}: {error}; the last {endpoints} endpoints stay in use");
///     }
///     _ => {}
/// };
/// # let _ = log;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum DiscoverEvent<'a> {
    /// Another list is in use.
    #[non_exhaustive]
    Changed {
        /// The source: the name that it looks up, its path, or what it was called.
        source: &'a Name,
        /// How many endpoints there are now.
        endpoints: usize,
    },
    /// Nothing can be had of the source, or something is wrong with what it has. The last good list stays in use.
    #[non_exhaustive]
    Failed {
        /// The source.
        source: &'a Name,
        /// What is wrong.
        error: &'a (dyn Error + Send + Sync + 'static),
        /// How many endpoints stay in use.
        endpoints: usize,
        /// After how long the source looks again; `None` where it waits to be told.
        retry_after: Option<Duration>,
    },
    /// The source has nothing more to say. Its last list stays in use.
    #[non_exhaustive]
    Ended {
        /// The source.
        source: &'a Name,
        /// How many endpoints stay in use.
        endpoints: usize,
    },
}
