use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use buttress_core::BoxError;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::ReplayPool;
use super::frames::Frames;
use crate::policy::Sent;

/// A body of that many frames is not kept, however short they are: each costs more than its bytes.
const MOST_FRAMES: usize = 1024;

/// The body that the inner service gets: the request's own, or the same once more.
///
/// While the first attempt reads it, what was read is kept, in the buffers that it came in (nothing is copied where the
/// data are [`Bytes`]); a further attempt reads what was kept and then the rest, trailers included. What is kept is let go
/// as soon as there will be no further attempt: when the call is over, or has no attempts left, or its body turned out too
/// long.
///
/// A body that is at its end from the start, and one that is not kept, pass through at the cost of a branch.
pub struct ReplayBody<B>(Kind<B>);

enum Kind<B> {
    /// Not kept, or nothing to keep.
    Once(B),
    /// An empty one once more.
    Empty,
    Kept(Player<B>),
}

/// One attempt's reading of a body that is kept.
struct Player<B> {
    kept: Arc<Kept<B>>,
    /// Which attempt this is; a former one reads nothing more.
    turn: u32,
    /// The rest of the body, once what was kept is read.
    rest: Option<B>,
    handed: u64,
    ended: bool,
}

/// What the attempts of one call share. They read one after the other.
struct Kept<B> {
    /// How long the body is, where it says so.
    length: Option<u64>,
    limit: usize,
    pool: ReplayPool,
    tape: Mutex<Tape<B>>,
}

struct Tape<B> {
    frames: Frames,
    trailers: Option<HeaderMap>,
    /// How many of the frames the present attempt has read.
    played: usize,
    /// Whether it has read the trailers.
    played_trailers: bool,
    /// Bytes of the frames and the trailers, and taken from the pool.
    bytes: usize,
    rest: Rest<B>,
    turn: u32,
    /// Whether there may be a further attempt.
    keep: bool,
    /// Whether more went out than is here.
    too_much: bool,
    /// Whether the present attempt has read everything.
    all_sent: bool,
    /// Whether it reads nothing more: it has come to the end, or is gone.
    left: bool,
    /// Who waits for the rest to come back.
    waker: Option<Waker>,
}

/// Where the part of the body is that was not read yet.
enum Rest<B> {
    Here(B),
    InUse,
    None,
    Broken,
}

/// The right to send a body again. Dropped, nothing more is kept.
pub(crate) struct Keep<B>(Arc<Kept<B>>);

impl<B: Body> ReplayBody<B> {
    /// Not kept.
    pub(crate) const fn once(body: B) -> Self {
        Self(Kind::Once(body))
    }

    /// A body without frames.
    pub(crate) const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Keeps up to `limit` bytes of what is read.
    pub(crate) fn kept(body: B, limit: usize, pool: &ReplayPool) -> (Self, Keep<B>) {
        let tape = Tape {
            frames: Frames::default(),
            trailers: None,
            played: 0,
            played_trailers: false,
            bytes: 0,
            rest: Rest::InUse,
            turn: 0,
            keep: true,
            too_much: false,
            all_sent: false,
            left: false,
            waker: None,
        };
        let length = body.size_hint().exact();
        let kept = Arc::new(Kept { length, limit, pool: pool.clone(), tape: Mutex::new(tape) });
        let player = Player { kept: kept.clone(), turn: 0, rest: Some(body), handed: 0, ended: false };
        (Self(Kind::Kept(player)), Keep(kept))
    }
}

impl<B> Keep<B> {
    /// How far the present attempt got.
    pub(crate) fn sent(&self) -> Sent {
        let tape = self.0.tape();
        match tape.rest {
            _ if tape.too_much => Sent::TooMuch,
            Rest::Broken => Sent::Broken,
            // Who has all but the trailers still has to read those.
            _ if tape.all_sent && tape.left && !matches!(tape.rest, Rest::InUse) => Sent::All,
            Rest::InUse => Sent::InUse,
            Rest::Here(_) | Rest::None => Sent::Part,
        }
    }

    /// Keeps the present attempt from reading on, unless the rest of the body is in its hands: then it gives that back when
    /// it is dropped.
    pub(crate) fn stop(&self) -> bool {
        let mut tape = self.0.tape();
        let free = !matches!(tape.rest, Rest::InUse);
        tape.turn += u32::from(free);
        free
    }

    /// Waits until the present attempt has given back what it has of the body.
    pub(crate) fn poll_back(&self, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut tape = self.0.tape();
        if !matches!(tape.rest, Rest::InUse) {
            return Poll::Ready(());
        }
        let former = tape.waker.replace(waker);
        drop(tape);
        drop(former);
        Poll::Pending
    }

    /// The body for a further attempt, unless the former one still has a part of it.
    pub(crate) fn again(&self) -> Option<ReplayBody<B>> {
        let mut tape = self.0.tape();
        if tape.too_much || matches!(tape.rest, Rest::InUse | Rest::Broken) {
            return None;
        }
        tape.turn += 1;
        tape.played = 0;
        tape.played_trailers = false;
        // Who sees at once that there is nothing to read does not read.
        let is_empty = tape.frames.len() == 0 && tape.trailers.is_none() && matches!(tape.rest, Rest::None);
        (tape.all_sent, tape.left) = (is_empty, is_empty);
        let turn = tape.turn;
        drop(tape);
        let kept = self.0.clone();
        Some(ReplayBody(Kind::Kept(Player { kept, turn, rest: None, handed: 0, ended: false })))
    }
}

impl<B> Drop for Keep<B> {
    fn drop(&mut self) {
        let mut tape = self.0.tape();
        tape.keep = false;
        let gone = self.0.let_go(&mut tape);
        drop(tape);
        drop(gone);
    }
}

impl<B> Kept<B> {
    fn tape(&self) -> MutexGuard<'_, Tape<B>> {
        // Nothing under this lock leaves the tape half changed.
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, tape: &mut Tape<B>, bytes: usize) {
        tape.bytes -= bytes;
        self.pool.give_back(bytes);
    }

    /// Takes out what no attempt will read: nothing is kept any more. The tape itself may be held for longer than the call, by
    /// a former attempt. To be dropped outside the lock.
    fn let_go(&self, tape: &mut Tape<B>) -> (Frames, Option<HeaderMap>, Rest<B>) {
        // The present attempt may still have to read what it has not yet, unless it is gone.
        let played = mem::take(&mut tape.played);
        let read = if tape.left { mem::take(&mut tape.frames) } else { tape.frames.pop_many(played) };
        let trailers = if tape.left || tape.played_trailers { tape.trailers.take() } else { None };
        let rest = match tape.rest {
            Rest::Here(_) if tape.left => mem::replace(&mut tape.rest, Rest::None),
            _ => Rest::None,
        };
        self.give_back(tape, read.bytes() + trailers.as_ref().map_or(0, length));
        (read, trailers, rest)
    }

    /// Keeps a frame that is being handed out, unless that would be too much. Gives back what is to be dropped outside the
    /// lock.
    fn record(&self, tape: &mut Tape<B>, data: &Bytes) -> Frames {
        if !tape.keep || tape.too_much || data.is_empty() {
            return Frames::default();
        }
        if tape.frames.len() >= MOST_FRAMES || !self.take(tape, data.len()) {
            return self.overflow(tape);
        }
        tape.frames.push(data.clone());
        tape.played += 1;
        Frames::default()
    }

    /// Keeps the trailers, like a frame.
    fn record_trailers(&self, tape: &mut Tape<B>, trailers: HeaderMap) -> Frames {
        if !tape.keep || tape.too_much {
            return Frames::default();
        }
        if !self.take(tape, length(&trailers)) {
            return self.overflow(tape);
        }
        tape.trailers = Some(trailers);
        tape.played_trailers = true;
        Frames::default()
    }

    /// Makes room for `bytes`, if there is any.
    fn take(&self, tape: &mut Tape<B>, bytes: usize) -> bool {
        let fits = tape.bytes.saturating_add(bytes) <= self.limit && self.pool.take(bytes);
        tape.bytes += if fits { bytes } else { 0 };
        fits
    }

    /// Keeps nothing of a body that is too long.
    fn overflow(&self, tape: &mut Tape<B>) -> Frames {
        tape.too_much = true;
        tape.played = 0;
        let bytes = tape.bytes;
        self.give_back(tape, bytes);
        mem::take(&mut tape.frames)
    }
}

impl<B> Drop for Kept<B> {
    fn drop(&mut self) {
        let tape = self.tape.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.pool.give_back(tape.bytes);
    }
}

/// What trailers count for: the bytes of their names and values.
fn length(trailers: &HeaderMap) -> usize {
    trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// What a player finds on the tape.
enum Found<B> {
    Data(Bytes),
    Trailers(HeaderMap),
    Rest(B),
    End,
    Gone,
}

impl<B: Body + Unpin> Player<B> {
    /// Reads what was kept, until that ends.
    fn find(&mut self) -> Found<B> {
        let mut tape = self.kept.tape();
        if tape.turn != self.turn {
            return Found::Gone;
        }
        if tape.played < tape.frames.len() {
            let data = if tape.keep {
                let at = tape.played;
                tape.played += 1;
                tape.frames.get(at).expect("there is one more").clone()
            } else {
                let data = tape.frames.pop().expect("there is one more");
                self.kept.give_back(&mut tape, data.len());
                data
            };
            self.handed += data.len() as u64;
            let last = tape.played == tape.frames.len();
            self.ended = last && matches!(tape.rest, Rest::None) && tape.trailers.is_none();
            tape.all_sent |= self.ended || self.kept.length == Some(self.handed);
            tape.left |= self.ended;
            return Found::Data(data);
        }
        match mem::replace(&mut tape.rest, Rest::InUse) {
            Rest::Here(body) => Found::Rest(body),
            Rest::None => {
                tape.rest = Rest::None;
                (tape.all_sent, tape.left) = (true, true);
                self.ended = true;
                tape.played_trailers = true;
                let trailers = if tape.keep {
                    tape.trailers.clone()
                } else {
                    let trailers = tape.trailers.take();
                    self.kept.give_back(&mut tape, trailers.as_ref().map_or(0, length));
                    trailers
                };
                trailers.map_or(Found::End, Found::Trailers)
            }
            other => {
                tape.rest = other;
                Found::Gone
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>
    where
        B::Error: Into<BoxError>,
    {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.rest.is_none() {
            match self.find() {
                Found::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Found::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Found::End => return Poll::Ready(None),
                Found::Gone => return Poll::Ready(Some(Err(GONE.into()))),
                Found::Rest(body) => self.rest = Some(body),
            }
        }
        let rest = self.rest.as_mut().expect("set above");
        let polled = std::task::ready!(Pin::new(&mut *rest).poll_frame(cx));
        let frame = match polled {
            None => {
                self.close(Rest::None, None);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                self.close(Rest::Broken, None);
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        Poll::Ready(match frame.into_data() {
            Ok(mut data) => {
                let data = data.copy_to_bytes(data.remaining());
                let ends = rest.is_end_stream();
                self.handed += data.len() as u64;
                let mut tape = self.kept.tape();
                let dropped = self.kept.record(&mut tape, &data);
                tape.all_sent |= self.kept.length == Some(self.handed);
                drop(tape);
                drop(dropped);
                if ends {
                    self.close(Rest::None, None);
                }
                Some(Ok(Frame::data(data)))
            }
            Err(frame) => frame.into_trailers().ok().map(|trailers| {
                self.close(Rest::None, Some(&trailers));
                Ok(Frame::trailers(trailers))
            }),
        })
    }

    /// The body has come to its end, or to an error.
    fn close(&mut self, rest: Rest<B>, trailers: Option<&HeaderMap>) {
        self.ended = true;
        let trailers = trailers.cloned();
        let mut tape = self.kept.tape();
        tape.all_sent |= matches!(rest, Rest::None);
        tape.left = true;
        tape.rest = rest;
        let dropped =
            trailers.map(|trailers| self.kept.record_trailers(&mut tape, trailers)).unwrap_or_default();
        let waker = tape.waker.take();
        drop(tape);
        drop(dropped);
        self.rest = None;
        waker.inspect(Waker::wake_by_ref);
    }

    fn is_end_stream(&self) -> bool {
        if self.ended {
            return true;
        }
        if let Some(rest) = &self.rest {
            return rest.is_end_stream();
        }
        let tape = self.kept.tape();
        let read = tape.turn == self.turn && tape.played == tape.frames.len();
        read && match &tape.rest {
            Rest::None => tape.trailers.is_none(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (self.kept.length, &self.rest) {
            (Some(length), _) => SizeHint::with_exact(length.saturating_sub(self.handed)),
            (None, Some(rest)) => rest.size_hint(),
            (None, None) => SizeHint::default(),
        }
    }
}

/// What a former attempt reads that is still at work when its successor has begun.
const GONE: &str = "the request was given up and is being sent again";

impl<B> Drop for Player<B> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut tape = self.kept.tape();
        tape.left |= tape.turn == self.turn;
        let (mut dropped, mut waker) = (None, None);
        if let Some(body) = self.rest.take() {
            let keeps = tape.keep && !tape.too_much;
            let (back, rest) = if keeps { (Rest::Here(body), None) } else { (Rest::None, Some(body)) };
            tape.rest = back;
            dropped = rest;
            waker = tape.waker.take();
        }
        let gone = (!tape.keep && tape.left).then(|| self.kept.let_go(&mut tape));
        drop(tape);
        drop((dropped, gone));
        waker.inspect(Waker::wake_by_ref);
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Kind::Once(body) => Pin::new(body).poll_frame(cx).map(|frame| {
                frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
                    Err(error) => Err(error.into()),
                })
            }),
            Kind::Empty => Poll::Ready(None),
            Kind::Kept(player) => player.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Once(body) => body.is_end_stream(),
            Kind::Empty => true,
            Kind::Kept(player) => player.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Once(body) => body.size_hint(),
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Kept(player) => player.size_hint(),
        }
    }
}

#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
impl<B> From<ReplayBody<B>> for reqwest::Body
where
    B: Body + Unpin + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    fn from(body: ReplayBody<B>) -> Self {
        // Reqwest can send what it knows to be empty, or whole, once more itself.
        if body.is_end_stream() { Self::from(Bytes::new()) } else { Self::wrap(body) }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Once(_) => "once",
            Kind::Empty => "empty",
            Kind::Kept(_) => "kept",
        };
        f.debug_tuple("ReplayBody").field(&kind).finish()
    }
}
