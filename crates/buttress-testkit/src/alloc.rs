/// Counts the allocations that `work` makes on this thread.
///
/// Growing a buffer counts as one. The counting allocator is installed for the whole test binary by the
/// feature `alloc`; it counts per thread, so tests may run side by side. Call the code a few times before,
/// so that tables and thread-locals exist.
///
/// ```
/// assert_eq!(buttress_testkit::allocations(|| 1 + 1), 0);
/// assert_eq!(buttress_testkit::allocations(|| Box::new(1)), 1);
/// ```
pub fn allocations<T>(work: impl FnOnce() -> T) -> u64 {
    let mut kept = None;
    let info = allocation_counter::measure(|| kept = Some(std::hint::black_box(work())));
    info.count_total
}

/// Runs `work`, and says how many bytes more are held on this thread than before: what it allocated and did not give
/// back, by sizes as they were asked for.
///
/// ```
/// let (kept, bytes) = buttress_testkit::held_bytes(|| vec![0_u8; 100]);
/// assert_eq!(bytes, 100);
/// assert_eq!(buttress_testkit::held_bytes(|| drop(kept)).1, -100);
/// ```
#[expect(clippy::missing_panics_doc, reason = "the work is done when its result is asked for")]
pub fn held_bytes<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let mut kept = None;
    let info = allocation_counter::measure(|| kept = Some(std::hint::black_box(work())));
    (kept.expect("the work is done"), info.bytes_current)
}
