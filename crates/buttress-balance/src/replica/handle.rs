use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::Name;

use super::ReplicaSplitEvent;
use super::rules::{EXCEEDED, NO_REPLICA, RECENT, REFUSED, REPLICAS, Shared, TOKEN, WRITES};

/// Takes what replicas report, and tells what [`ReplicaSplit`](crate::ReplicaSplit) makes of it.
///
/// Replicas are told by their positions in the list that the service was built of. Report their lag more often than the lag
/// bound, as a report holds only for so long as the bound is not passed by silence.
///
/// ```
/// # use buttress_balance::{ReplicaRules, ReplicaSplit};
/// # use buttress_core::BoxError;
/// # use std::time::Duration;
/// # fn main() -> Result<(), BoxError> {
/// # let pool = || tower::service_fn(|_: http::Request<()>| async { Ok::<_, BoxError>(http::Response::new(())) });
/// let store = ReplicaSplit::new(pool(), [pool(), pool()], ReplicaRules::default())?;
/// # let store = store.by(|req: &http::Request<()>| Some(req.uri().path().to_owned()));
/// let handle = store.handle();
///
/// // From `pg_stat_replication`, `SHOW REPLICA STATUS` or a heartbeat table, once a second:
/// handle.report_lag(0, Duration::from_millis(40));
/// handle.report_position(0, 0x16_B374_D848);
///
/// assert!(handle.replica(0).within && !handle.replica(1).within);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReplicaSplitHandle {
    shared: Arc<Shared>,
    name: Name,
}

/// What is known of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaView {
    /// Whether it is within the lag bound, and so serves reads.
    pub within: bool,
    /// The lag that it has reported last.
    pub lag: Option<Duration>,
    /// The position that it has reported last.
    pub position: Option<u64>,
}

/// Where the calls of a [`ReplicaSplit`](crate::ReplicaSplit) went, over all of its clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaSplitCounts {
    /// Writes, all of which go to the primary.
    pub writes: u64,
    /// Reads that went to a replica.
    pub replicas: u64,
    /// Reads that went to the primary since their key, or one that shares its place, was written just before.
    pub recent: u64,
    /// Reads that went to the primary since no replica had reported the token of the last write.
    pub token: u64,
    /// Reads that went to the primary since no replica was within the lag bound.
    pub no_replica: u64,
    /// Reads that were refused for that reason.
    pub refused: u64,
    /// How often a replica in use has reported more lag than the bound.
    pub lag_exceeded: u64,
}

impl ReplicaSplitHandle {
    pub(crate) const fn new(shared: Arc<Shared>, name: Name) -> Self {
        Self { shared, name }
    }

    /// Takes how far behind a replica is now: by how long ago the primary had what the replica has.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    pub fn report_lag(&self, replica: usize, lag: Duration) {
        let shared = &*self.shared;
        if shared.policy.report_lag(replica, lag, shared.clock.now()) {
            shared.counts.add_one(EXCEEDED);
            let bound = shared.policy.rules().lag_bound;
            shared.tell(&ReplicaSplitEvent::LagExceeded { policy: &self.name, replica, lag, bound });
        }
    }

    /// Takes the position that a replica has reached: it has every write with a token up to it. The last report counts, also
    /// where it is lower than one before.
    ///
    /// Where primaries fail over and to ask a replica takes time, say by
    /// [`report_position_in`](Self::report_position_in) of whose history it is.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    pub fn report_position(&self, replica: usize, position: u64) {
        self.shared.policy.report_position(replica, position);
    }

    /// Takes a position that was asked for in this [`epoch`](Self::epoch). It counts for nothing once another primary has taken over.
    ///
    /// ```
    /// # use buttress_balance::ReplicaSplitHandle;
    /// # use std::io;
    /// async fn report(handle: ReplicaSplitHandle, ask: impl AsyncFn() -> io::Result<u64>) -> io::Result<()> {
    ///     let epoch = handle.epoch();
    ///     handle.report_position_in(epoch, 0, ask().await?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    pub fn report_position_in(&self, epoch: u64, replica: usize, position: u64) {
        self.shared.policy.report_position_in(epoch, replica, position);
    }

    /// How often another primary has taken over.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.policy.epoch()
    }

    /// Forgets all tokens and positions, and holds all reads at the primary for one window: when another primary takes over, whose positions
    /// are not those of the former one. A write that is under way, and so may still have been done by the former one, holds its key for a
    /// window when it is over, whatever token it gives.
    ///
    /// Tokens that callers [carry](crate::ReplicaSplit::carried_tokens) are not known here: where they do not tell of which history they
    /// are, those of the former one may hold their callers at the primary until it is as far.
    pub fn fail_over(&self) {
        self.shared.policy.fail_over(self.shared.clock.now());
    }

    /// What is known of a replica.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    #[must_use]
    pub fn replica(&self, replica: usize) -> ReplicaView {
        let policy = &self.shared.policy;
        ReplicaView {
            within: policy.is_within(replica, self.shared.clock.now()),
            lag: policy.lag(replica),
            position: policy.position(replica),
        }
    }

    /// How many replicas there are.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.shared.policy.replicas()
    }

    /// Where calls went so far.
    #[must_use]
    pub fn counts(&self) -> ReplicaSplitCounts {
        let sum = |count| self.shared.counts.sum(count);
        ReplicaSplitCounts {
            writes: sum(WRITES),
            replicas: sum(REPLICAS),
            recent: sum(RECENT),
            token: sum(TOKEN),
            no_replica: sum(NO_REPLICA),
            refused: sum(REFUSED),
            lag_exceeded: sum(EXCEEDED),
        }
    }
}

impl fmt::Debug for ReplicaSplitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaSplitHandle").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
