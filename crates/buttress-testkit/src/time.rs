use std::time::Duration;

/// Moves tokio's paused time and lets every task that became due run, without a real wait.
///
/// Plain `tokio::time::advance` moves on before a task that was just spawned has started its timer, and returns
/// before the tasks whose timers fired have run; this yields to both.
///
/// # Panics
///
/// When tokio's time is not paused (`#[tokio::test(start_paused = true)]`).
pub async fn advance(by: Duration) {
    settle().await;
    tokio::time::advance(by).await;
    settle().await;
}

/// Lets every other task of a current-thread runtime run until it waits.
pub async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}
