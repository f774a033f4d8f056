//! When a tracked body is over, frame by frame.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use buttress_core::{End, Finish, Guard};
use buttress_http::body::{AtEnd, Tracked};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{Either, Empty, Full};
use support::{Broken, Record, Recorder, Scripted, Step, Told, body, finish, recorder, trailers};

fn tracked<B: Body>(body: B) -> (Tracked<B, Recorder>, Record) {
    let (guard, record) = recorder();
    (Tracked::new(body, guard), record)
}

/// A GET's response with these fields, followed to its end.
fn response<const N: usize>(
    fields: [(&str, &str); N],
    body: Scripted,
) -> (Tracked<Scripted, Recorder>, Record) {
    let (guard, record) = recorder();
    let mut response = Response::builder();
    for (name, value) in fields {
        response = response.header(name, value);
    }
    (finish(&Method::GET, response.body(body).unwrap(), guard).into_body(), record)
}

fn poll<B: Body + Unpin>(body: &mut B) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// Polls one frame of data.
fn data<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Bytes {
    match poll(body) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().expect("a frame of data"),
        _ => panic!("no frame"),
    }
}

#[test]
fn a_body_of_unknown_length_is_complete_at_none() {
    let (mut body, mut record) = tracked(body([Step::Data("ab"), Step::Data("c")]));

    assert_eq!(data(&mut body), "ab");
    assert_eq!(data(&mut body), "c");
    assert!(record.is_held());

    assert!(matches!(poll(&mut body), Poll::Ready(None)));
    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
    assert!(matches!(poll(&mut body), Poll::Ready(None)), "and may be polled on");
}

#[test]
fn full_is_complete_with_its_one_frame() {
    let (mut body, mut record) = tracked(Full::new(Bytes::from_static(b"hello")));

    assert!(record.is_held());
    assert_eq!(data(&mut body), "hello");

    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
}

#[test]
fn a_body_at_its_end_is_complete_before_the_first_poll() {
    let (_empty, mut of_empty) = tracked(Empty::<Bytes>::new());
    let (_full, mut of_full) = tracked(Full::new(Bytes::new()));
    let (_declared, mut of_declared) = response([("content-length", "0")], body([Step::Stall]));

    assert_eq!(of_empty.so_far(), Some(vec![Told::Complete]));
    assert_eq!(of_full.so_far(), Some(vec![Told::Complete]));
    assert_eq!(of_declared.so_far(), Some(vec![Told::Complete]));
}

#[test]
fn a_body_that_says_its_end_with_the_last_frame_is_complete_there() {
    let (mut body, mut record) = tracked(body([Step::Data("a"), Step::Data("b")]).says_end());

    data(&mut body);
    assert!(record.is_held());
    data(&mut body);

    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
}

#[test]
fn an_exact_size_that_was_handed_out_is_complete() {
    let (mut body, mut record) = tracked(body([Step::Data("ab"), Step::Data("c"), Step::Stall]).exact(3));

    data(&mut body);
    assert!(record.is_held());
    data(&mut body);

    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
}

#[test]
fn a_declared_length_that_was_handed_out_is_complete() {
    let (mut body, mut record) =
        response([("content-length", "3")], body([Step::Data("ab"), Step::Data("c"), Step::Stall]));

    data(&mut body);
    assert!(record.is_held());
    data(&mut body);

    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
}

#[test]
fn a_declared_length_that_is_none_does_not_count() {
    for fields in [
        [("content-length", "+1"), ("x", "y")],
        [("content-length", ""), ("x", "y")],
        [("content-length", "1, 1"), ("x", "y")],
        [("content-length", "99999999999999999999999"), ("x", "y")],
        [("content-length", "1"), ("content-length", "2")],
        [("content-length", "1"), ("transfer-encoding", "chunked")],
    ] {
        let (mut body, mut record) = response(fields, body([Step::Data("a"), Step::Stall]));

        data(&mut body);
        assert!(record.is_held(), "{fields:?}");

        drop(body);
        assert_eq!(record.so_far(), Some(vec![Told::Aborted]), "{fields:?}");
    }
}

#[test]
fn the_shorter_of_declared_and_exact_length_counts() {
    let (mut longer, mut of_longer) =
        response([("content-length", "1")], body([Step::Data("a"), Step::Stall]).exact(5));
    let (mut shorter, mut of_shorter) =
        response([("content-length", "5")], body([Step::Data("a"), Step::Stall]).exact(1));

    data(&mut longer);
    data(&mut shorter);

    assert_eq!(of_longer.so_far(), Some(vec![Told::Complete]));
    assert_eq!(of_shorter.so_far(), Some(vec![Told::Complete]));
}

#[test]
fn a_body_longer_than_declared_is_complete_once_and_goes_on() {
    let (mut body, mut record) =
        response([("content-length", "1")], body([Step::Data("abc"), Step::Data("def")]));

    assert_eq!(data(&mut body), "abc");
    assert_eq!(record.so_far(), Some(vec![Told::Complete]));

    assert_eq!(data(&mut body), "def");
    drop(body);
    assert_eq!(record.so_far(), Some(vec![]), "nothing more is told");
}

#[test]
fn trailers_are_told() {
    let (mut body, mut record) = tracked(body([Step::Data("a"), Step::Trailers("done")]));

    data(&mut body);
    let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else { panic!("no trailers") };

    assert_eq!(frame.into_trailers().unwrap(), trailers("done"), "they pass through");
    assert_eq!(record.so_far(), Some(vec![Told::Trailers(trailers("done"))]));
}

#[test]
fn announced_trailers_are_waited_for_behind_a_known_length() {
    for announced in [
        ("trailer", "x-end"),
        ("content-type", "application/grpc"),
        ("content-type", "Application/gRPC+proto"),
        ("content-type", "application/grpc; a=b"),
    ] {
        let fields = [("content-length", "1"), announced];
        let (mut body, mut record) = response(fields, body([Step::Data("a"), Step::Trailers("done")]));

        data(&mut body);
        assert!(record.is_held(), "{announced:?}");
        let _ = poll(&mut body);

        assert_eq!(record.so_far(), Some(vec![Told::Trailers(trailers("done"))]), "{announced:?}");
    }
}

#[test]
fn announced_trailers_that_no_one_reads_leave_the_body_complete() {
    let fields = [("content-length", "1"), ("trailer", "x-end")];
    let (mut body, mut record) = response(fields, body([Step::Data("a"), Step::Trailers("done")]));

    data(&mut body);
    drop(body);

    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
}

#[test]
fn a_grpc_body_that_is_left_before_its_trailers_is_aborted() {
    let fields = [("content-length", "1"), ("content-type", "application/grpc"), ("trailer", "x-end")];
    let (mut body, mut record) = response(fields, body([Step::Data("a"), Step::Trailers("done")]));

    data(&mut body);
    drop(body);

    assert_eq!(record.so_far(), Some(vec![Told::Aborted]));
}

#[test]
fn trailers_behind_a_known_length_pass_even_if_not_announced() {
    for content_type in ["text/plain", "application/grpc-web"] {
        let fields = [("content-length", "1"), ("content-type", content_type)];
        let (mut body, mut record) = response(fields, body([Step::Data("a"), Step::Trailers("done")]));

        data(&mut body);
        assert_eq!(record.so_far(), Some(vec![Told::Complete]), "{content_type}");
        let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else { panic!("no trailers") };

        assert!(frame.is_trailers(), "{content_type}");
    }
}

#[test]
fn no_body_is_over_at_the_head() {
    for (method, status, told) in [
        (Method::HEAD, 200, Told::Head),
        (Method::HEAD, 404, Told::Head),
        (Method::GET, 103, Told::Complete),
        (Method::GET, 204, Told::Complete),
        (Method::GET, 304, Told::Complete),
        (Method::CONNECT, 304, Told::Complete),
    ] {
        let (guard, mut record) = recorder();
        let response = Response::builder().status(status).header("content-length", "9");

        let finished = finish(&method, response.body(body([Step::Stall])).unwrap(), guard);

        assert_eq!(record.so_far(), Some(vec![told]), "{method} {status}");
        assert_eq!(finished.headers()["content-length"], "9", "the head stays");
    }
}

#[test]
fn a_refused_connect_has_an_ordinary_body() {
    let (guard, mut record) = recorder();
    let response = Response::builder().status(502).body(body([Step::Data("a")])).unwrap();

    let mut body = finish(&Method::CONNECT, response, guard).into_body();

    data(&mut body);
    assert!(record.is_held());
    drop(body);
    assert_eq!(record.so_far(), Some(vec![Told::Aborted]));
}

#[test]
fn a_drop_before_the_end_is_aborted() {
    let (unpolled, mut of_unpolled) = tracked(body([Step::Data("a")]));
    let (mut pending, mut of_pending) = tracked(body([Step::Stall]));
    let (mut middle, mut of_middle) = tracked(body([Step::Data("a"), Step::Data("b")]).exact(2));
    assert!(poll(&mut pending).is_pending());
    data(&mut middle);

    drop((unpolled, pending, middle));

    assert_eq!(of_unpolled.so_far(), Some(vec![Told::Aborted]));
    assert_eq!(of_pending.so_far(), Some(vec![Told::Aborted]));
    assert_eq!(of_middle.so_far(), Some(vec![Told::Aborted]));
}

#[test]
fn a_drop_after_the_end_arrived_unseen_is_complete() {
    struct EndsLater(bool);
    impl Body for EndsLater {
        type Data = Bytes;
        type Error = Broken;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
            // As in HTTP/2: the last data has come, then END_STREAM, which no one has polled for.
            self.0 = true;
            Poll::Pending
        }
        fn is_end_stream(&self) -> bool {
            self.0
        }
    }
    let (mut body, mut record) = tracked(EndsLater(false));
    assert!(poll(&mut body).is_pending());
    assert!(record.is_held());

    drop(body);

    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
}

#[test]
fn an_error_is_failed() {
    let (mut body, mut record) = tracked(body([Step::Data("a"), Step::Fail]).exact(5));

    data(&mut body);
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(Broken)))));

    assert_eq!(record.so_far(), Some(vec![Told::Failed]));
}

#[test]
fn a_panic_in_the_body_is_failed_even_while_the_body_is_kept() {
    let (mut body, mut record) = tracked(body([Step::Data("a"), Step::Panic]));

    data(&mut body);
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut body))).is_err());

    assert_eq!(record.so_far(), Some(vec![Told::Failed]));
    drop(body);
    assert_eq!(record.so_far(), Some(vec![]));
}

#[test]
fn a_panic_of_someone_else_is_aborted() {
    let (body, mut record) = tracked(body([Step::Stall]));

    assert!(
        catch_unwind(AssertUnwindSafe(move || {
            let _held = body;
            panic!("somewhere above")
        }))
        .is_err()
    );

    assert_eq!(record.so_far(), Some(vec![Told::Aborted]));
}

#[test]
fn a_guard_that_panics_is_told_once_and_dropped() {
    struct Panics(#[expect(dead_code, reason = "held for its drop")] Recorder, u32);
    impl Guard for Panics {
        fn end(&mut self, _: &End<'_>) {
            self.1 += 1;
            panic!("told {} times", self.1)
        }
    }
    let (guard, mut record) = recorder();
    let mut body = Tracked::new(body([Step::Data("a")]).exact(1), Panics(guard, 0));

    let panicked = catch_unwind(AssertUnwindSafe(|| poll(&mut body))).unwrap_err();
    drop(body);

    assert_eq!(panicked.downcast_ref::<String>().unwrap(), "told 1 times");
    assert_eq!(record.so_far(), Some(vec![Told::Dropped]));
}

#[test]
fn a_guard_is_told_of_the_bytes_as_they_are_handed_out_and_then_of_the_end() {
    #[derive(Default)]
    struct Counted(Arc<Mutex<Vec<u64>>>);
    impl Guard for Counted {
        fn data(&mut self, bytes: u64) {
            self.0.lock().unwrap().push(bytes);
        }
        fn end(&mut self, _: &End<'_>) {
            self.0.lock().unwrap().push(u64::MAX);
        }
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let steps = [Step::Data("abc"), Step::Data(""), Step::Data("de")];
    let mut body = Tracked::new(body(steps).exact(5), Some(Counted(told.clone())));
    let read = || told.lock().unwrap().clone();

    assert!(read().is_empty());
    data(&mut body);
    assert_eq!(read(), [3]);
    data(&mut body);
    data(&mut body);
    assert_eq!(read(), [3, 0, 2, u64::MAX]);
}

#[test]
fn hints_are_those_of_the_inner_body() {
    let (mut body, _record) = tracked(body([Step::Data("ab"), Step::Data("c")]).exact(3).says_end());

    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
    data(&mut body);
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(1), false));
    data(&mut body);
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
}

#[test]
fn an_untracked_body_passes_through() {
    let mut body = Tracked::<_, Recorder>::untracked(body([Step::Data("a"), Step::Fail]));

    assert!(!body.is_tracking());
    assert_eq!(data(&mut body), "a");
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(Broken)))));
}

#[test]
fn replies_are_made_of_bytes() {
    use buttress_http::body::ReplyBody;
    use http_body_util::combinators::{BoxBody, UnsyncBoxBody};

    fn check<B: ReplyBody + Body<Data = Bytes> + Unpin>() {
        let mut reply = B::reply(Bytes::from_static(b"refused"));
        assert_eq!(reply.size_hint().exact(), Some(7));
        assert_eq!(data(&mut reply), "refused");
        assert!(B::reply(Bytes::new()).is_end_stream(), "{}", std::any::type_name::<B>());
    }

    check::<Full<Bytes>>();
    check::<BoxBody<Bytes, Broken>>();
    check::<UnsyncBoxBody<Bytes, Broken>>();
    check::<Either<Full<Bytes>, Scripted>>();
    check::<Tracked<Either<Full<Bytes>, Scripted>, Recorder>>();
    #[cfg(feature = "axum")]
    check::<axum::body::Body>();
    #[cfg(feature = "tonic")]
    check::<tonic::body::Body>();
    #[cfg(feature = "reqwest")]
    check::<reqwest::Body>();
}

#[test]
fn a_body_that_is_over_hides_nothing_from_one_that_looks_at_its_end() {
    // What `tonic::body::Body::new` does: a wrapper at its end is thrown away unpolled.
    let (wrapper, mut record) = tracked(Full::new(Bytes::new()));

    assert!(wrapper.is_end_stream());
    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
    drop(wrapper);
    assert_eq!(record.so_far(), Some(vec![]));
}

#[test]
fn following_a_body_allocates_nothing() {
    let request = Request::new(());
    let response = Response::new(Full::new(Bytes::from_static(b"hello")));

    let allocations = buttress_testkit::allocations(|| {
        let form = Finish::<_, Response<Full<Bytes>>, ()>::form(&AtEnd, &request);
        let mut body = Finish::<Request<()>, _, _>::finish(&AtEnd, form, response, ()).into_body();
        while let Poll::Ready(Some(Ok(frame))) = poll(&mut body) {
            assert!(frame.is_data());
        }
    });

    assert_eq!(allocations, 0);
}

#[test]
fn auto_traits_are_those_of_the_parts() {
    fn check<T: Send + Sync + Unpin>() {}

    check::<Tracked<Full<Bytes>, Recorder>>();
    check::<AtEnd>();
    check::<buttress_http::body::UntilUpgradeEnds>();
    check::<buttress_http::LiftBodies<()>>();
    check::<buttress_http::LiftBodiesFuture<()>>();
}
