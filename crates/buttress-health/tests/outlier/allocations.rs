//! What a call takes from the allocator: nothing.

use super::*;
use buttress_testkit::allocations;
use std::task::Waker;

/// Calls once, around a service that was made before.
fn once<S: Service<Reply, Response = Reply>>(service: &mut S, reply: Reply) {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    assert!(std::pin::pin!(service.call(reply)).poll(cx).is_ready());
}

#[test]
fn a_call_allocates_nothing_whether_it_is_good_or_bad_and_the_endpoint_in_or_out() {
    let rig = rig("a b c", plain());
    let mut service = rig.outliers.layer(&rig.endpoint("a")).classify(judge).blame(blame).layer(Asked);

    for reply in [Good, Failed, Gateway, Soft, Ignored, Failed] {
        assert_eq!(allocations(|| once(&mut service, reply)), 0, "{reply:?}");
    }
    rig.handle.eject("a").unwrap();
    assert_eq!(allocations(|| once(&mut service, Failed)), 0, "while it is out");
}

#[test]
fn nor_does_one_while_a_task_drives() {
    let rig = rig("a b c", plain());
    let mut task = Task::new(rig.outliers.run());
    assert!(task.run().is_pending());
    let mut service = rig.outliers.layer(&rig.endpoint("a")).classify(judge).blame(blame).layer(Asked);

    assert_eq!(allocations(|| (0..100).for_each(|_| once(&mut service, Good))), 0);
}
