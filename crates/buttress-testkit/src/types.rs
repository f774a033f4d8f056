/// Fails to compile unless `T` is `Send`.
pub const fn assert_send<T: Send + ?Sized>() {}

/// Fails to compile unless `T` is `Send`, `Sync`, `Clone` and `Unpin`: what a service or layer should be.
///
/// `axum` and `Buffer` ask for the first two and for `Clone`; a service that is not `Unpin` cannot be
/// polled through a plain `&mut`.
///
/// ```
/// const _: () = buttress_testkit::assert_send_sync_clone_unpin::<std::sync::Arc<u8>>();
/// ```
///
/// ```compile_fail
/// const _: () = buttress_testkit::assert_send_sync_clone_unpin::<std::rc::Rc<u8>>();
/// ```
pub const fn assert_send_sync_clone_unpin<T: Send + Sync + Clone + Unpin>() {}
