use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use buttress_core::{Clock, ManualClock};

use super::exchange::{Exchange, Shape};
use super::given::{Ending, Refusal};
use super::panics::{self, Place};
use super::rig::{Checked, Probe, Rig, Wrong};
use super::wakes::{self, Wait};
use super::{Contract, Failure, Point, Report, Subject, Tripwire, WAITERS};
use super::{body, cancel, given, hot_path, readiness, time};

/// One run of the suite over one contract.
pub(super) struct Suite<'a, L, X> {
    contract: &'a Contract<L, X>,
    report: Report,
}

impl<'a, L: Subject<X>, X: Exchange> Suite<'a, L, X> {
    pub(super) fn new(contract: &'a Contract<L, X>) -> Self {
        Self { contract, report: Report::default() }
    }

    pub(super) fn run(mut self) -> Report {
        self.readiness();
        self.wakes();
        self.cancels();
        self.panics();
        self.late();
        self.bodies();
        self.hot_path();
        self.bounds();
        self.config();
        self.times();
        self.report
    }

    fn readiness(&mut self) {
        use readiness as r;
        self.examine(Point::Instance, "calls while the inner service is ready", r::inner_is_ready);
        self.examine(
            Point::Instance,
            "calls while the inner service lets them in one by one",
            r::inner_becomes_ready,
        );
        self.examine(Point::Readiness, "poll_ready again and again", r::poll_ready_is_repeatable);
        self.examine(Point::Readiness, "a readied service and its clone", r::a_clone_is_not_ready);
        self.examine(Point::Readiness, "poll_ready from two tasks", r::another_task_polls_ready);
        self.examine(Point::Readiness, "clones readied and dropped", r::readied_and_dropped);
        self.examine(Point::Readiness, "an inner poll_ready that fails", r::readiness_fails);
        self.examine(
            Point::Readiness,
            "an inner poll_ready that fails after a while",
            r::readiness_fails_late,
        );
    }

    fn wakes(&mut self) {
        for wait in [Wait::Readiness, Wait::Response] {
            for gone in [None, Some(0), Some(WAITERS - 1)] {
                self.examine(Point::Wakes, "clones that wait", move |rig| {
                    wakes::all_are_woken(rig, wait, gone)
                });
            }
            self.examine(Point::Wakes, "a call that changes its task", move |rig| {
                wakes::the_last_waker_counts(rig, wait)
            });
        }
    }

    fn cancels(&mut self) {
        self.examine(Point::Cancel, "calls that succeed and fail", cancel::a_call_that_ends);
        self.examine(Point::Cancel, "drop before the first poll", cancel::before_the_first_poll);
        self.examine(
            Point::Cancel,
            "drop while the inner service is not ready",
            cancel::waiting_for_readiness,
        );
        self.examine(Point::Cancel, "drop while the inner service works", cancel::waiting_for_the_response);
        self.examine(Point::Cancel, "drop one of two calls", cancel::behind_another_call);
        self.examine(Point::Cancel, "drop a call that was woken", cancel::woken_and_then_dropped);
        self.examine(Point::Cancel, "drop the service before its call", cancel::the_service_goes_first);
        self.examine(Point::Cancel, "drop after the head", cancel::after_the_head);
        if X::HAS_BODY {
            self.examine(Point::Cancel, "drop mid-body", cancel::mid_body);
        }
    }

    fn panics(&mut self) {
        for (place, during) in [
            (Place::Ready, "panic in the inner poll_ready"),
            (Place::Call, "panic in the inner call"),
            (Place::Future, "panic in the inner future"),
        ] {
            self.examine(Point::Panic, during, move |rig| panics::the_layer_works_on(rig, place, false));
            let during = format!("{during}, after a wait");
            self.examine(Point::Panic, &during, move |rig| panics::the_layer_works_on(rig, place, true));
        }
        self.examine(Point::Panic, "panic in one of two calls", panics::the_other_call_finishes);
        if X::HAS_BODY {
            self.examine(Point::Panic, "panic in the inner body", panics::the_body_panics);
        }
        if self.contract.closures {
            self.examine(Point::Panic, "panic in a closure of the user", panics::a_closure_panics);
        }
    }

    fn late(&mut self) {
        let Some(epoch) = self.contract.epoch.clone() else {
            return self.skip(Point::Late, "`late` was not given");
        };
        for ending in [Ending::Success, Ending::Failure, Ending::Panic, Ending::Drop] {
            let epoch = epoch.clone();
            self.examine(Point::Late, "a call that ends in a later epoch", move |rig| {
                given::late_outcome(rig, &epoch, ending)
            });
        }
    }

    fn bodies(&mut self) {
        if !X::HAS_BODY {
            return self.skip(Point::BodyEnd, "needs `Contract::http`");
        }
        for shape in Shape::READABLE {
            self.examine(Point::BodyEnd, "reading the body", move |rig| body::is_kept(rig, shape));
        }
        for moves in [false, true] {
            self.examine(Point::Wakes, "a body that waits", move |rig| body::wakes(rig, moves));
        }
    }

    fn hot_path(&mut self) {
        #[cfg(feature = "alloc")]
        {
            let allowed = self.contract.allocations;
            for cloned in [false, true] {
                self.examine(Point::HotPath, "allocations of a call", move |rig| {
                    hot_path::allocations(rig, allowed, cloned)
                });
            }
        }
        #[cfg(not(feature = "alloc"))]
        self.skip(Point::HotPath, "allocations are counted with the feature `alloc`");
        self.examine(Point::HotPath, "tasks of a call", hot_path::no_task_per_call);
        if self.contract.closures {
            let during = "a closure of the user that looks at the layer";
            self.examine(Point::HotPath, during, hot_path::closures_run_outside_locks);
        }
    }

    fn bounds(&mut self) {
        let Some((most, entries)) = self.contract.most.clone() else {
            return self.skip(Point::Bounded, "`at_most` was not given");
        };
        self.examine(Point::Bounded, "many different requests", move |rig| {
            given::bounded(rig, most, &entries)
        });
    }

    fn config(&mut self) {
        if self.contract.refusals.is_empty() {
            return self.skip(Point::Config, "`refuses` was not given");
        }
        if !self.is_exempt(Point::Config) {
            self.report.failures.extend(self.contract.refusals.iter().filter_map(Refusal::check));
        }
    }

    fn times(&mut self) {
        self.examine(Point::Time, "time that jumps forward", time::jumps_forward);
        self.examine(Point::Time, "time that goes back", time::goes_back);
        self.examine(Point::Time, "the end of time", time::ends);
    }

    fn is_exempt(&self, point: Point) -> bool {
        self.contract.exempt.iter().any(|(exempt, _)| *exempt == point)
    }

    fn skip(&mut self, point: Point, reason: &str) {
        if !self.is_exempt(point) {
            self.report.skipped.push((point, reason.to_owned()));
        }
    }

    /// Runs one scenario on a thread of its own.
    fn examine(
        &mut self,
        point: Point,
        during: &str,
        scenario: impl FnOnce(Rig<L, X>) -> Checked + Send + 'static,
    ) {
        if self.is_exempt(point) {
            return;
        }
        let (make, held) = (self.contract.make.clone(), self.contract.held.clone());
        let (done, result) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(during.to_owned())
            .spawn(move || {
                // Nobody listens any more when the scenario blocked for too long.
                let _ = done.send(on_this_thread(&*make, held, scenario));
            })
            .expect("a thread can be started");

        let wrong = match result.recv_timeout(self.contract.patience) {
            Ok(wrong) => {
                thread.join().expect("the scenario's panics are caught");
                wrong
            }
            Err(_) => {
                Some("a call blocks its thread: it waits for a lock that it holds itself, or is in a loop that never ends".into())
            }
        };
        if let Some(Wrong { point: other, what }) = wrong {
            // A clone that counts as ready is found out by the inner service, too.
            let point = if point == Point::Readiness { point } else { other.unwrap_or(point) };
            if !self.is_exempt(point) {
                self.report.failures.push(Failure { point, during: during.to_owned(), what });
            }
        }
    }
}

fn on_this_thread<L: Subject<X>, X: Exchange>(
    make: &(dyn Fn(&Tripwire) -> L + Send + Sync),
    held: Option<Probe<L>>,
    scenario: impl FnOnce(Rig<L, X>) -> Checked,
) -> Option<Wrong> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be built");
    let handle = runtime.handle().clone();
    let _inside = handle.enter();
    let clock = ManualClock::new();

    let mut inner = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Clock::with_default(clock.clock(), || {
            let wire = Tripwire::default();
            let rig = Rig::new(make(&wire), wire, clock.clone(), held, runtime);
            inner = Some(rig.inner.clone());
            scenario(rig)
        })
    }));
    if inner.is_some_and(|inner| inner.unready_calls() > 0) {
        let what = "calls an instance of the inner service that was not readied".to_owned();
        return Some(Wrong { point: Some(Point::Instance), what });
    }
    match outcome {
        Ok(Ok(())) => None,
        Ok(Err(wrong)) => Some(wrong),
        Err(payload) => Some(format!("panics: {}", message(&*payload).unwrap_or("without a message")).into()),
    }
}

/// What a panic says.
pub(super) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}
