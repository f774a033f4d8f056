use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime};

use pin_project::{pin_project, pinned_drop};

use crate::alarm::Alarm;
use crate::sleepers::Sleepers;
use crate::{Timestamp, nanos};

/// Reads the time, sleeps, and tells the date: the only place in Buttress that asks the system.
///
/// A clock is one or two words and cheap to clone. Layers take [`Clock::default`] unless they are given one.
///
/// | source | for | resolution |
/// |---|---|---|
/// | [`Clock::monotonic`] | the default: the CPU's time stamp counter (through `quanta`), `std` where there is none | ns |
/// | [`Clock::coarse`] | very hot paths that can live with a late clock | 1 ms |
/// | [`Clock::tokio`] | tests under `tokio::time::pause`, simulations | ns |
/// | [`ManualClock`] | tests of anything that may also see the time jump back | ns |
///
/// The system clocks of a process count from one origin, so their timestamps compare, and none reads less than that
/// origin. They are as monotonic as the counter that they read: where the counters of two CPUs are out of step, a thread
/// may see a moment a little earlier than one that another thread has seen. The tokio clock never goes back; a
/// [`ManualClock`] goes back when it is told to. Policies take all of this. Reading a clock never blocks.
///
/// ```
/// use buttress_core::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let time = ManualClock::new();
/// // What is built inside the closure finds this clock by `Clock::default()`.
/// let clock = Clock::with_default(time.clock(), Clock::default);
/// let start = clock.now();
/// time.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now() - start, Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Monotonic(&'static Monotonic),
    Coarse(&'static Monotonic),
    Tokio(Arc<Tokio>),
    Manual(Arc<Manual>),
}

impl Source {
    #[inline(never)]
    fn now(&self) -> Timestamp {
        match self {
            Self::Monotonic(source) => source.now(),
            Self::Coarse(source) => source.recent(),
            Self::Tokio(source) => source.now(),
            Self::Manual(source) => source.now(),
        }
    }
}

thread_local! {
    static DEFAULT: RefCell<Option<Clock>> = const { RefCell::new(None) };
}

impl Clock {
    /// The process-wide monotonic clock.
    ///
    /// The first call in a process calibrates it, which can take some milliseconds (at most about 200);
    /// layers make their clock when they are built, so no request ever waits for that.
    #[must_use]
    pub fn monotonic() -> Self {
        Self(Source::Monotonic(Monotonic::get()))
    }

    /// The monotonic clock, read once a millisecond by one thread that the process owns.
    ///
    /// Reading it is one load of an atomic. The first call starts the thread; if none can be started, the
    /// clock reads as [`Clock::monotonic`].
    #[must_use]
    pub fn coarse() -> Self {
        let monotonic = Monotonic::get();
        if monotonic.keep_recent() {
            Self(Source::Coarse(monotonic))
        } else {
            Self(Source::Monotonic(monotonic))
        }
    }

    /// A clock that follows tokio's, and so `tokio::time::pause` and `advance`.
    ///
    /// Its origin is the moment of this call. Read outside a paused runtime it would go back; it is held at
    /// the latest time seen instead.
    #[must_use]
    pub fn tokio() -> Self {
        Self(Source::Tokio(Arc::new(Tokio::new())))
    }

    /// Runs `f` with `clock` as what [`Clock::default`] gives on this thread.
    ///
    /// This is how a test swaps the clock of layers that the code under test builds itself.
    ///
    /// # Panics
    ///
    /// Only when `f` does; the former default is put back in that case too.
    pub fn with_default<T>(clock: Self, f: impl FnOnce() -> T) -> T {
        struct Restore(Option<Clock>);
        impl Drop for Restore {
            fn drop(&mut self) {
                DEFAULT.with(|slot| *slot.borrow_mut() = self.0.take());
            }
        }

        let _restore = Restore(DEFAULT.with(|slot| slot.borrow_mut().replace(clock)));
        f()
    }

    /// The present moment.
    ///
    /// A layer reads it once when it admits a call and once when the outcome is known.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Monotonic(source) => source.now(),
            // Apart, so that the default takes no jump through a table.
            other => other.now(),
        }
    }

    /// The date, for fields such as `Date` and for windows aligned to the calendar.
    ///
    /// System clocks read it for real, so it jumps when an operator sets the date; the tokio and manual clocks
    /// derive it from their own time.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            Source::Monotonic(_) | Source::Coarse(_) => wall_now(),
            Source::Tokio(source) => add_saturating(source.wall_origin, source.now()),
            Source::Manual(source) => add_saturating(source.wall_origin, source.now()),
        }
    }

    /// Completes at `deadline`, or at once when that has passed; [`Timestamp::MAX`] is never.
    ///
    /// On system clocks and the tokio clock this is a tokio timer with its resolution of one millisecond, and
    /// so it must be polled inside a tokio runtime that has time enabled. [`Sleep::precise`] comes nearer.
    pub fn sleep_until(&self, deadline: Timestamp) -> Sleep {
        Sleep { clock: self.clone(), deadline, precise: false, timer: Timer::Unset }
    }

    /// Completes when `duration` has passed from now.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }
}

impl Default for Clock {
    /// The clock of the innermost [`Clock::with_default`] on this thread, else [`Clock::monotonic`].
    fn default() -> Self {
        DEFAULT.with(|slot| slot.borrow().clone()).unwrap_or_else(Self::monotonic)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.0 {
            Source::Monotonic(_) => "monotonic",
            Source::Coarse(_) => "coarse",
            Source::Tokio(_) => "tokio",
            Source::Manual(_) => "manual",
        };
        f.debug_tuple("Clock").field(&source).finish()
    }
}

/// The process-wide reader of the hardware's counter.
struct Monotonic {
    counter: quanta::Clock,
    origin: u64,
    origin_instant: quanta::Instant,
    keeps_recent: OnceLock<bool>,
}

impl Monotonic {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn get() -> &'static Self {
        static MONOTONIC: OnceLock<Monotonic> = OnceLock::new();
        MONOTONIC.get_or_init(|| {
            let counter = quanta::Clock::new();
            let origin = counter.raw();
            let origin_instant = counter.scaled(origin);
            Self { counter, origin, origin_instant, keeps_recent: OnceLock::new() }
        })
    }

    /// Where the counter reads less than at the origin, this is the origin.
    #[inline]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.counter.delta_as_nanos(self.origin, self.counter.raw()))
    }

    fn keep_recent(&self) -> bool {
        *self.keeps_recent.get_or_init(|| {
            let upkeep = quanta::Upkeep::new_with_clock(Duration::from_millis(1), self.counter.clone());
            // The thread belongs to the process: its handle, which would end it, is given up.
            upkeep.start().map(std::mem::forget).is_ok()
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn recent(&self) -> Timestamp {
        let since = self.counter.recent().saturating_duration_since(self.origin_instant);
        Timestamp::from_nanos(nanos(since))
    }
}

/// Tokio's time, held so that it never goes back.
struct Tokio {
    origin: tokio::time::Instant,
    wall_origin: SystemTime,
    latest: AtomicU64,
}

impl Tokio {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn new() -> Self {
        Self { origin: tokio::time::Instant::now(), wall_origin: wall_now(), latest: AtomicU64::new(0) }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let now = nanos(tokio::time::Instant::now().saturating_duration_since(self.origin));
        Timestamp::from_nanos(self.latest.fetch_max(now, Ordering::Relaxed).max(now))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn wall_now() -> SystemTime {
    SystemTime::now()
}

fn add_saturating(origin: SystemTime, now: Timestamp) -> SystemTime {
    origin.checked_add(now.since(Timestamp::ZERO)).unwrap_or(origin)
}

/// The hands of a clock that moves only when it is told to, for tests.
///
/// It may also be set back, further than any system clock goes: that is how a test shows that a policy survives it.
/// Its date starts at 2026-01-01T00:00:00Z.
///
/// ```
/// use buttress_core::{ManualClock, Timestamp};
/// use std::time::Duration;
///
/// let time = ManualClock::new();
/// let clock = time.clock();
/// time.advance(Duration::from_secs(5));
/// assert_eq!(clock.now(), Timestamp::from_nanos(5_000_000_000));
/// time.set(Timestamp::ZERO);
/// assert_eq!(clock.now(), Timestamp::ZERO);
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Manual>);

struct Manual {
    now: AtomicU64,
    wall_origin: SystemTime,
    sleepers: Mutex<Sleepers>,
}

impl ManualClock {
    /// Makes a clock that stands at its origin.
    #[must_use]
    pub fn new() -> Self {
        // 2026-01-01T00:00:00Z: any fixed date does; this one aligns seconds, minutes, hours and days.
        let wall_origin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        Self(Arc::new(Manual { now: AtomicU64::new(0), wall_origin, sleepers: Mutex::default() }))
    }

    /// A clock that follows these hands.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.0.clone()))
    }

    /// The present moment of this clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Moves time on by `duration` and wakes who waited for a moment that has come.
    pub fn advance(&self, duration: Duration) {
        self.set(self.0.now() + duration);
    }

    /// Moves time to `now`, on or back, and wakes who waited for a moment that has come.
    pub fn set(&self, now: Timestamp) {
        self.0.now.store(now.as_nanos(), Ordering::SeqCst);
        let due = self.0.sleepers().due(now);
        // Outside the lock: a waker is somebody else's code.
        due.for_each(Waker::wake);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).finish()
    }
}

impl Manual {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now.load(Ordering::SeqCst))
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        // Nothing under this lock can leave the map half changed, so a poisoned lock is as good as a sound one.
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, deadline: Timestamp, place: &mut Option<u64>, cx: &Context<'_>) -> Poll<()> {
        // Registered first and looked at second, so that a `set` in between is not missed. A waker that is
        // replaced is dropped after the lock is.
        let waker = cx.waker().clone();
        let former = self.sleepers().enter(deadline, place, waker);
        drop(former);
        if self.now() < deadline {
            return Poll::Pending;
        }
        self.forget(deadline, place);
        Poll::Ready(())
    }

    fn forget(&self, deadline: Timestamp, place: &mut Option<u64>) {
        let waker = self.sleepers().leave(deadline, place);
        drop(waker);
    }
}

/// The future of [`Clock::sleep_until`].
///
/// # Cancel safety
///
/// Dropping it leaves nothing behind.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    clock: Clock,
    deadline: Timestamp,
    precise: bool,
    #[pin]
    timer: Timer,
}

#[pin_project(project = TimerProj)]
enum Timer {
    Unset,
    Tokio(#[pin] tokio::time::Sleep),
    Manual(Option<u64>),
    Alarm(&'static Alarm, Option<u64>),
}

impl Sleep {
    /// Ends about a tenth of a millisecond after its moment, and not at tokio's next millisecond: for calls that are
    /// spaced out more finely than that. It never ends early.
    ///
    /// On [`Clock::monotonic`] a thread of the process wakes those who sleep so; it is started by the first of them, and
    /// no tokio runtime is needed. To be woken by another thread costs some microseconds, so what may be a millisecond
    /// late, as timeouts may, does without. On the other clocks, and where no thread can be started, this changes
    /// nothing.
    pub fn precise(mut self) -> Self {
        self.precise = true;
        self
    }

    /// The moment at which it completes.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Moves the moment at which it completes, without a new timer where that can be avoided.
    ///
    /// Poll it again afterwards: whoever waited for the former moment need not be woken for the new one.
    pub fn reset(self: Pin<&mut Self>, deadline: Timestamp) {
        let mut this = self.project();
        this.timer.as_mut().leave(this.clock, *this.deadline);
        *this.deadline = deadline;
        if let TimerProj::Tokio(timer) = this.timer.as_mut().project() {
            timer.reset(tokio_deadline(deadline - this.clock.now()));
        }
    }
}

impl Timer {
    /// What waits for the moment, where the clock itself does not wake.
    fn start(clock: &Clock, left: Duration, precise: bool) -> Self {
        if precise
            && let Source::Monotonic(source) = clock.0
            && let Some(alarm) = Alarm::get(|| source.now())
        {
            return Self::Alarm(alarm, None);
        }
        Self::Tokio(tokio_sleep(left))
    }

    /// Gives up the place among those who wait for the moment, if it has one.
    fn leave(self: Pin<&mut Self>, clock: &Clock, deadline: Timestamp) {
        match (self.project(), &clock.0) {
            (TimerProj::Manual(place), Source::Manual(source)) => source.forget(deadline, place),
            (TimerProj::Alarm(alarm, place), _) => alarm.leave(deadline, place),
            _ => {}
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Source::Manual(source) = &this.clock.0 {
            if matches!(*this.timer, Timer::Unset) {
                this.timer.set(Timer::Manual(None));
            }
            let TimerProj::Manual(place) = this.timer.project() else { unreachable!("set above") };
            return source.poll(*this.deadline, place, cx);
        }
        loop {
            // A timer and our clock are two readers of one time: ours decides.
            let left = *this.deadline - this.clock.now();
            if left.is_zero() {
                this.timer.leave(this.clock, *this.deadline);
                return Poll::Ready(());
            }
            match this.timer.as_mut().project() {
                TimerProj::Tokio(timer) => {
                    ready!(timer.poll(cx));
                    let left = *this.deadline - this.clock.now();
                    if left.is_zero() {
                        return Poll::Ready(());
                    }
                    this.timer.set(Timer::Tokio(tokio_sleep(left)));
                }
                TimerProj::Alarm(alarm, place) => {
                    alarm.enter(*this.deadline, place, cx.waker());
                    return Poll::Pending;
                }
                _ => {
                    let timer = Timer::start(this.clock, left, *this.precise);
                    this.timer.set(timer);
                }
            }
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Sleep {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        this.timer.leave(this.clock, *this.deadline);
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn tokio_sleep(left: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(left)
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn tokio_deadline(left: Duration) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    // Tokio itself takes thirty years for ever.
    now.checked_add(left).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365 * 30))
}
