use std::fmt;

/// Which endpoint serves a hash, and which one where that cannot: the endpoints in order, the best first, each once.
///
/// This is the one thing that all policies here have in common, and all that a balancer needs of them. An endpoint is
/// its position in the list that the policy was built of; what is known of endpoints at run time (health, draining, load,
/// those that were tried before) stays with the caller, who goes on to the next candidate where one cannot serve. So
/// a change of health never rebuilds a table and is seen by the next pick.
///
/// A walk is a small value that borrows nothing: a future can keep it beside a shared policy and go on later. Nothing
/// is allocated, and nothing is computed before it is asked for.
///
/// What the hash is depends on the policy: for consistent hashing that of the key ([`Hashing`](crate::Hashing)), for
/// [`RoundRobin`](crate::RoundRobin) the number of the turn, for [`Random`](crate::Random) a random value.
///
/// ```
/// use buttress_balance::{ConsistentHash, Node, Order};
///
/// # fn main() -> Result<(), buttress_balance::PolicyError> {
/// let ring = ConsistentHash::ring().build(&["a", "b", "c"].map(Node::new))?;
/// let hash = ring.hashing().of(b"user-17");
///
/// let order: Vec<usize> = ring.candidates(hash).collect();
/// assert_eq!(order.len(), 3);
/// assert_eq!(ring.pick(hash, |endpoint| endpoint != order[0]), Some(order[1]));
/// # Ok(())
/// # }
/// ```
pub trait Order {
    /// How far a walk has come.
    type Walk: Clone + fmt::Debug + Send + Sync + 'static;

    /// How many endpoints the policy was built of, those of weight 0 among them. Candidates are below it.
    fn endpoints(&self) -> usize;

    /// Begins the walk of `hash`.
    fn walk(&self, hash: u64) -> Self::Walk;

    /// The next candidate of a walk that this policy began, or `None` after the last: each endpoint of a weight above 0
    /// comes once, the others never. A walk that another policy began may miss candidates, and does no other harm.
    fn step(&self, walk: &mut Self::Walk) -> Option<usize>;

    /// The candidates of `hash` as an iterator.
    #[inline]
    fn candidates(&self, hash: u64) -> Candidates<'_, Self> {
        Candidates { order: self, walk: self.walk(hash) }
    }

    /// The first candidate of `hash` that is `usable`, or `None` where no one is.
    ///
    /// For a set of bits the closure looks one up. Where nothing is usable this asks for every endpoint, so a caller
    /// that counts the usable ones asks only when there are any.
    #[inline]
    fn pick(&self, hash: u64, mut usable: impl FnMut(usize) -> bool) -> Option<usize>
    where
        Self: Sized,
    {
        self.candidates(hash).find(|&endpoint| usable(endpoint))
    }
}

/// The candidates of one hash, as [`Order::candidates`] gives them.
pub struct Candidates<'a, O: Order + ?Sized> {
    order: &'a O,
    walk: O::Walk,
}

impl<O: Order + ?Sized> Iterator for Candidates<'_, O> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        self.order.step(&mut self.walk)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.order.endpoints()))
    }
}

impl<O: Order + ?Sized> std::iter::FusedIterator for Candidates<'_, O> {}

impl<O: Order + ?Sized> Clone for Candidates<'_, O> {
    fn clone(&self) -> Self {
        Self { order: self.order, walk: self.walk.clone() }
    }
}

impl<O: Order + ?Sized> fmt::Debug for Candidates<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidates").field("walk", &self.walk).finish_non_exhaustive()
    }
}

/// A policy that is shared orders as it does alone.
impl<O: Order + ?Sized> Order for std::sync::Arc<O> {
    type Walk = O::Walk;

    #[inline]
    fn endpoints(&self) -> usize {
        (**self).endpoints()
    }

    #[inline]
    fn walk(&self, hash: u64) -> Self::Walk {
        (**self).walk(hash)
    }

    #[inline]
    fn step(&self, walk: &mut Self::Walk) -> Option<usize> {
        (**self).step(walk)
    }
}
