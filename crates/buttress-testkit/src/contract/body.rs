//! Point 7: what a response body still tells after the layer has wrapped it.

use std::future::poll_fn;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::Subject;
use super::cancel::head;
use super::exchange::{Answer, Exchange, Shape, last_body};
use super::rig::{Checked, Rig};
use crate::BoxError;
use crate::task::Task;

pub(super) fn is_kept<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>, shape: Shape) -> Checked {
    let mut service = rig.service();
    let (_, body) = head(&rig, &mut service, shape)?.split();
    let mut body = Box::pin(body);
    let mut plain = Box::pin(shape.body());

    loop {
        same("size_hint", shape, &hint(&plain.size_hint()), &hint(&body.size_hint()))?;
        same("is_end_stream", shape, &plain.is_end_stream(), &body.is_end_stream())?;
        if plain.is_end_stream() {
            break;
        }
        let expected = next(&rig, &mut plain)?;
        let got = next(&rig, &mut body)?;
        same("a frame", shape, &expected, &got)?;
        if matches!(got, Some(Seen::Nothing | Seen::Error) | None) {
            break;
        }
    }
    // The last frame was handed out, or the error: the call is over, whether or not the body is kept.
    rig.nothing_held("after the body's last frame and before it is dropped")?;
    drop(body);
    rig.clean("after the body was read")?;
    rig.serve(&mut service, "after a body was read")?;
    rig.close(service)
}

fn hint(hint: &SizeHint) -> (u64, Option<u64>) {
    (hint.lower(), hint.upper())
}

/// A body that waits is woken when it can go on, also when it has moved to another task.
pub(super) fn wakes<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>, moves: bool) -> Checked {
    let mut service = rig.service();
    let (_, body) = head(&rig, &mut service, Shape::Stall)?.split();
    let inner = last_body();
    let mut body = Box::pin(body);
    next(&rig, &mut body)?;
    let mut frame = Task::new(poll_fn(|cx| body.as_mut().poll_frame(cx)));
    let mut got = rig.run(&mut frame)?;
    if moves && got.is_none() {
        frame.change_waker();
        got = rig.run(&mut frame)?;
    }
    inner.resume();
    if got.is_none() && rig.run(&mut frame)?.is_none() {
        return Err("the inner body has its next frame, but the task that polled last is not woken".into());
    }
    drop(frame);
    drop(body);
    rig.close(service)
}

#[derive(Debug, PartialEq)]
enum Seen {
    Data(Bytes),
    Trailers(http::HeaderMap),
    Error,
    Nothing,
}

fn next<L, X, B>(rig: &Rig<L, X>, body: &mut std::pin::Pin<Box<B>>) -> Checked<Option<Seen>>
where
    L: Subject<X>,
    X: Exchange,
    B: Body<Data: Buf, Error: Into<BoxError>>,
{
    let frame = rig.run(&mut Task::new(poll_fn(|cx| body.as_mut().poll_frame(cx))))?;
    Ok(frame.map(|frame| match frame.map(|frame| frame.map(Frame::into_data)) {
        None => Seen::Nothing,
        Some(Err(_)) => Seen::Error,
        Some(Ok(Ok(mut data))) => Seen::Data(data.copy_to_bytes(data.remaining())),
        Some(Ok(Err(frame))) => frame.into_trailers().map_or(Seen::Nothing, Seen::Trailers),
    }))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, shape: Shape, inner: &T, outer: &T) -> Checked {
    if inner == outer {
        return Ok(());
    }
    Err(format!("{what} of a body ({shape:?}) was {inner:?} below the layer and is {outer:?} above it")
        .into())
}
