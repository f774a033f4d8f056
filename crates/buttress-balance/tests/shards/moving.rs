//! Each key stays readable with its latest value while keys move, whatever happens in between.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use buttress_balance::{
    HashMod, Hashing, Jump, Locate, Mapped, Movable, MoveError, Mover, Ranges, Settled, ShardBy, ShardLayout,
    ShardMap, Shards,
};
use buttress_core::{Access, BoxError};
use buttress_testkit::Task;
use tower_service::Service;

use super::{Random, full, now, poll};

/// A store that is no HTTP service: versions by key.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<HashMap<u64, u64>>>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Get(u64),
    Put(u64, u64),
}

/// A call on its way: the first poll sends it, the second lets it reach the store, the third brings the answer.
struct Trip {
    store: Store,
    op: Op,
    stage: u8,
    answer: Option<u64>,
}

impl Service<Op> for Store {
    type Response = Option<u64>;
    type Error = BoxError;
    type Future = Trip;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, op: Op) -> Trip {
        Trip { store: self.clone(), op, stage: 0, answer: None }
    }
}

impl Future for Trip {
    type Output = Result<Option<u64>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.stage += 1;
        match (self.stage, self.op) {
            (2, Op::Get(key)) => self.answer = self.store.get(key),
            (2, Op::Put(key, version)) => self.answer = self.store.put(key, version),
            (3, _) => return Poll::Ready(Ok(self.answer)),
            _ => {}
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Store {
    fn get(&self, key: u64) -> Option<u64> {
        self.0.lock().unwrap().get(&key).copied()
    }

    fn put(&self, key: u64, version: u64) -> Option<u64> {
        self.0.lock().unwrap().insert(key, version)
    }

    fn put_if_absent(&self, key: u64, version: u64) {
        self.0.lock().unwrap().entry(key).or_insert(version);
    }
}

const KEYS: u64 = 8;
const SHARDS: usize = 4;

type Absent = fn(Result<&Option<u64>, &BoxError>) -> bool;
type ByOp = fn(&Op) -> Access;

fn absent(answer: Result<&Option<u64>, &BoxError>) -> bool {
    answer.is_ok_and(Option::is_none)
}

fn access(op: &Op) -> Access {
    if matches!(op, Op::Get(_)) { Access::Read } else { Access::Write }
}

fn key(op: &Op) -> Option<u64> {
    match op {
        Op::Get(key) | Op::Put(key, _) => Some(*key),
    }
}

/// What the one who moves keys leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    CopiesAtOnce,
    Overwrites,
    DeletesAtOnce,
}

/// The stages of a move, each of which takes many steps of the others.
enum Stage {
    Idle,
    Draining(Settled),
    /// Keys with what was read of them at their former place, where that has happened.
    Copying(Vec<(u64, Option<Option<u64>>)>),
    Retiring(Settled),
}

struct Flight<F> {
    op: Op,
    /// The version that was written when it began.
    known: u64,
    future: Pin<Box<F>>,
}

/// Runs random steps and gives what went wrong first.
fn run<B, M>(
    shards: &Shards<Store, Mapped<B, M>, Movable<Absent, ByOp>>,
    seed: u64,
    fault: Fault,
    place: impl Fn(&M, u64) -> usize,
    next_map: impl Fn(&Random, &M) -> M,
) -> (Option<String>, u64)
where
    B: ShardBy<Op>,
    M: ShardMap<B::Key> + Clone,
    Mapped<B, M>: Locate<Op>,
{
    let stores = shards.services().to_vec();
    let mover: Mover<B, M> = shards.mover();
    let random = Random::new(seed);
    let mut flights = Vec::new();
    let (mut begun, mut written) = ([0_u64; KEYS as usize], [0_u64; KEYS as usize]);
    let (mut stage, mut former, mut moves) = (Stage::Idle, mover.map(), 0);

    for step in 0..600 {
        match random.below(10) {
            0..3 if flights.len() < 6 => {
                let key = random.below(KEYS);
                let at = key as usize;
                let writing =
                    flights.iter().any(|flight: &Flight<_>| matches!(flight.op, Op::Put(k, _) if k == key));
                let op = if random.below(2) == 0 && !writing {
                    begun[at] += 1;
                    Op::Put(key, begun[at])
                } else {
                    Op::Get(key)
                };
                flights.push(Flight { op, known: written[at], future: Box::pin(shards.clone().call(op)) });
            }
            3..8 if !flights.is_empty() => {
                let at = random.below(flights.len() as u64) as usize;
                let Poll::Ready(answer) = poll(&mut flights[at].future) else { continue };
                let Flight { op, known, .. } = flights.swap_remove(at);
                match (op, answer.expect("the stores do not fail")) {
                    (Op::Put(key, version), _) => written[key as usize] = version,
                    (Op::Get(key), found) => {
                        let found = found.unwrap_or(0);
                        if found < known || found > begun[key as usize] {
                            return (
                                Some(format!("step {step}: {key} reads {found} after {known} was written")),
                                moves,
                            );
                        }
                    }
                }
            }
            8 if random.below(8) == 0 && !flights.is_empty() => {
                let at = random.below(flights.len() as u64) as usize;
                drop(flights.swap_remove(at));
            }
            _ => {
                stage = match stage {
                    Stage::Idle => {
                        let next = next_map(&random, &former);
                        Stage::Draining(mover.begin(next).expect("nothing moves"))
                    }
                    Stage::Draining(mut settled) => {
                        if poll(&mut settled).is_pending() && fault != Fault::CopiesAtOnce {
                            Stage::Draining(settled)
                        } else {
                            Stage::Copying((0..KEYS).map(|key| (key, None)).collect())
                        }
                    }
                    Stage::Copying(mut left) => {
                        let next = next_of(&mover);
                        let Some(at) = (!left.is_empty()).then(|| random.below(left.len() as u64) as usize)
                        else {
                            moves += 1;
                            stage = Stage::Retiring(mover.finish().expect("keys move"));
                            continue;
                        };
                        let (key, read) = left[at];
                        let (from, to) = (place(&former, key), place(&next, key));
                        match read {
                            _ if from == to => drop(left.swap_remove(at)),
                            None => left[at].1 = Some(stores[from].get(key)),
                            Some(version) => {
                                left.swap_remove(at);
                                match version {
                                    Some(version) if fault == Fault::Overwrites => {
                                        stores[to].0.lock().unwrap().insert(key, version);
                                    }
                                    Some(version) => stores[to].put_if_absent(key, version),
                                    None => {}
                                }
                            }
                        }
                        Stage::Copying(left)
                    }
                    Stage::Retiring(mut settled) => {
                        if poll(&mut settled).is_pending() && fault != Fault::DeletesAtOnce {
                            Stage::Retiring(settled)
                        } else {
                            let map = mover.map();
                            for key in (0..KEYS).filter(|key| place(&former, *key) != place(&map, *key)) {
                                stores[place(&former, key)].0.lock().unwrap().remove(&key);
                            }
                            former = map;
                            Stage::Idle
                        }
                    }
                };
            }
        }
    }
    (None, moves)
}

/// The map that keys move to.
fn next_of<B, M: Clone>(mover: &Mover<B, M>) -> M {
    mover.next_map().expect("keys move")
}

fn stores() -> [Store; SHARDS] {
    std::array::from_fn(|_| Store::default())
}

fn ranges(seed: u64, fault: Fault) -> (Option<String>, u64) {
    let ranges = Ranges::new().with(..3, 0).unwrap().with(3..6, 1).unwrap().with(6.., 2).unwrap();
    let shards = Shards::by_range(stores(), ranges, key as fn(&Op) -> Option<u64>)
        .unwrap()
        .movable_by(absent as Absent, access as ByOp);
    let place = |map: &Ranges<u64>, key| map.shard(&key).unwrap();
    run(&shards, seed, fault, place, |random, map| {
        let start = random.below(KEYS);
        let range: Range<u64> = start..start + 1 + random.below(KEYS - start);
        map.moved(range, random.below(SHARDS as u64) as usize).unwrap()
    })
}

fn of(random: &Random) -> NonZeroU32 {
    NonZeroU32::new(1 + random.below(SHARDS as u64) as u32).unwrap()
}

fn hashed<M: ShardMap<u64> + Clone>(seed: u64, of: impl Fn(&Random) -> M) -> (Option<String>, u64) {
    let shards = Shards::by_hash(stores(), of(&Random::new(seed)), key as fn(&Op) -> Option<u64>)
        .unwrap()
        .movable_by(absent as Absent, access as ByOp);
    let place = |map: &M, key: u64| map.shard(&Hashing::default().of(&key.to_be_bytes())).unwrap();
    run(&shards, seed, Fault::None, place, |random, _| of(random))
}

fn seeds() -> Range<u64> {
    0..if full() { 20_000 } else { 400 }
}

#[test]
fn every_key_reads_its_latest_value_while_ranges_move() {
    let mut moves = 0;
    for seed in seeds() {
        let (wrong, moved) = ranges(seed, Fault::None);
        assert_eq!(wrong, None, "seed {seed}");
        moves += moved;
    }
    assert!(moves > 300, "only {moves} moves were made");
}

#[test]
fn every_key_reads_its_latest_value_while_the_number_of_shards_changes() {
    for seed in seeds() {
        assert_eq!(hashed(seed, |random| HashMod::new(of(random))).0, None, "modulo, seed {seed}");
        assert_eq!(hashed(seed, |random| Jump::new(of(random))).0, None, "jump, seed {seed}");
    }
}

#[test]
fn no_step_of_the_protocol_can_be_left_out() {
    for fault in [Fault::CopiesAtOnce, Fault::Overwrites, Fault::DeletesAtOnce] {
        assert!((0..400).any(|seed| ranges(seed, fault).0.is_some()), "{fault:?} is not noticed");
    }
}

#[test]
fn while_a_key_moves_a_write_goes_to_its_new_place_and_a_read_to_the_former_one_where_need_be() {
    let stores = stores();
    let ranges = Ranges::new().with(.., 0).unwrap();
    let shards = Shards::by_range(stores.clone(), ranges, key).unwrap().movable_by(absent as Absent, access);
    let run = |op| finish(&mut Box::pin(shards.clone().call(op)));
    run(Op::Put(1, 10));
    run(Op::Put(2, 20));

    let mover = shards.mover();
    let mut settled = mover.begin(mover.map().moved(0..5, 3).unwrap()).unwrap();
    assert!(poll(&mut settled).is_ready() && mover.is_moving());
    assert_eq!(run(Op::Get(1)), Some(10));
    run(Op::Put(1, 11));
    assert_eq!((stores[0].get(1), stores[3].get(1)), (Some(10), Some(11)));
    assert_eq!((run(Op::Get(1)), run(Op::Get(2)), run(Op::Get(3))), (Some(11), Some(20), None));
    assert_eq!(shards.handle().counts().fallbacks, 3);

    stores[3].put_if_absent(2, 20);
    let mut retired = mover.finish().unwrap();
    assert!(poll(&mut retired).is_ready() && !mover.is_moving());
    assert_eq!((run(Op::Get(1)), run(Op::Get(2)), run(Op::Get(3))), (Some(11), Some(20), None));
    assert_eq!(shards.handle().counts().fallbacks, 3, "nobody asks the former place any more");
}

#[test]
fn a_write_under_way_is_waited_for_before_copying_and_a_read_before_deleting() {
    let ranges = Ranges::new().with(.., 0).unwrap();
    let shards = Shards::by_range(stores(), ranges, key).unwrap().movable_by(absent as Absent, access);
    let mover = shards.mover();

    let mut write = Box::pin(shards.clone().call(Op::Put(1, 1)));
    let mut settled = Task::new(mover.begin(mover.map().moved(.., 1).unwrap()).unwrap());
    assert!(settled.poll().is_pending());
    finish(&mut write);
    assert!(settled.is_woken() && settled.poll().is_ready(), "also while the future is not dropped");

    let mut read = Task::new(shards.clone().call(Op::Get(2)));
    assert!(read.poll().is_pending());
    let mut retired = Task::new(mover.finish().unwrap());
    assert!(retired.poll().is_pending());
    drop(read);
    assert!(retired.is_woken() && retired.poll().is_ready());
}

#[test]
fn a_move_that_cannot_be_is_refused() {
    let ranges = Ranges::new().with(.., 0).unwrap();
    let shards =
        Shards::by_range(stores(), ranges.clone(), key).unwrap().movable_by(absent as Absent, access);
    let mover = shards.mover();

    assert!(matches!(mover.finish(), Err(MoveError::NotMoving)));
    let outside = ranges.moved(.., SHARDS).unwrap();
    assert!(matches!(mover.begin(outside), Err(MoveError::NoSuchShard { shard: 4, shards: 4, .. })));
    drop(mover.begin(ranges.moved(.., 1).unwrap()).unwrap());
    assert!(matches!(mover.begin(ranges), Err(MoveError::Moving)));

    let jump = Jump::new(NonZeroU32::MIN);
    let shards = Shards::by_hash(stores(), jump, key).unwrap().movable_by(absent as Absent, access);
    let other = jump.hash_by(Hashing::xxh3(1));
    assert_eq!(other.shards(), 1);
    assert!(matches!(shards.mover().begin(other), Err(MoveError::OtherHashing)));
}

#[test]
fn with_http_the_method_says_what_reads_and_the_status_what_is_not_there() {
    use http::{Method, Request, Response, StatusCode};

    let store = |status: StatusCode, name: &'static str| {
        tower::service_fn(move |_: Request<()>| async move {
            let mut response = Response::new(name);
            *response.status_mut() = status;
            Ok::<_, BoxError>(response)
        })
    };
    let request = |method: Method| Request::builder().method(method).uri("/1").body(()).unwrap();
    let by = |req: &Request<()>| req.uri().path().strip_prefix('/')?.parse::<u64>().ok();
    let ranges = Ranges::new().with(.., 0).unwrap();
    let shards = [store(StatusCode::OK, "old"), store(StatusCode::NOT_FOUND, "new")];
    let shards = Shards::by_range(shards, ranges, by).unwrap().movable(
        |answer: Result<&Response<&'static str>, &BoxError>| {
            answer.is_ok_and(|response| response.status() == StatusCode::NOT_FOUND)
        },
    );
    let mover = shards.mover();
    drop(mover.begin(mover.map().moved(.., 1).unwrap()).unwrap());

    assert_eq!(*now(&shards, request(Method::GET)).unwrap().body(), "old");
    assert_eq!(*now(&shards, request(Method::PUT)).unwrap().body(), "new");
}

/// Lets a call go to its end.
fn finish<F: Future<Output = Result<Option<u64>, BoxError>> + Unpin>(call: &mut F) -> Option<u64> {
    for _ in 0..10 {
        if let Poll::Ready(answer) = poll(call) {
            return answer.unwrap();
        }
    }
    panic!("it does not end")
}
