//! The atomics, and the cell of snapshots, or forms of them that loom sees where a model is run.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(not(buttress_loom))]
pub(crate) use arc_swap::ArcSwap as Swap;
#[cfg(buttress_loom)]
pub(crate) use model::Swap;

/// A value of a [`Swap`] while it is looked at.
#[cfg(not(buttress_loom))]
pub(crate) type Loaded<T> = arc_swap::Guard<std::sync::Arc<T>>;
#[cfg(buttress_loom)]
pub(crate) type Loaded<T> = std::sync::Arc<T>;

#[cfg(buttress_loom)]
mod model {
    use loom::sync::Mutex;
    use std::sync::Arc;

    /// What `arc_swap::ArcSwap` is, with a lock: each step of it is one.
    pub(crate) struct Swap<T>(Mutex<Arc<T>>);

    impl<T> Swap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            Arc::clone(&self.0.lock().expect("no thread panics"))
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *self.0.lock().expect("no thread panics") = value;
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.load()
        }

        /// What was there before.
        pub(crate) fn compare_and_swap(&self, present: &Arc<T>, next: Arc<T>) -> Arc<T> {
            let mut value = self.0.lock().expect("no thread panics");
            let before = Arc::clone(&value);
            if Arc::ptr_eq(&before, present) {
                *value = next;
            }
            before
        }
    }
}
