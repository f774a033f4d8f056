use std::collections::HashSet;

use buttress_balance::Hashing;
use buttress_http::key;

use super::*;

fn of(user: usize) -> Request<ScriptedBody> {
    let mut request = get(&format!("/{user}"));
    request.headers_mut().insert("x-user-id", user.into());
    request
}

/// Which of 2000 users' requests are mirrored.
async fn mirrored(share: f64, by_key: bool, seed: u64) -> HashSet<String> {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow).seed(seed).sample(share);
    for user in 0..2000 {
        if by_key {
            send(layer.clone().by(key::header("x-user-id")).layer(echo()), of(user)).await.unwrap();
        } else {
            send(layer.layer(echo()), of(user)).await.unwrap();
        }
        if user % 64 == 0 {
            settle().await;
        }
    }
    settle().await;
    let paths = seen.paths();
    assert_eq!(layer.handle().counts().not_mirrored, 0);
    paths.into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn the_share_that_is_asked_for_is_mirrored() {
    for by_key in [false, true] {
        assert_eq!(mirrored(0.0, by_key, 1).await.len(), 0);
        assert_eq!(mirrored(1.0, by_key, 1).await.len(), 2000);
        let quarter = mirrored(0.25, by_key, 1).await.len();
        assert!((420..580).contains(&quarter), "{quarter} of 2000, by key {by_key}");
    }
}

#[tokio::test(start_paused = true)]
async fn by_key_a_larger_sample_has_all_of_a_smaller_one() {
    let (small, large) = (mirrored(0.1, true, 1).await, mirrored(0.3, true, 2).await);
    assert!(small.is_subset(&large), "a user that is mirrored stays so");
    assert_eq!(mirrored(0.1, true, 3).await, small, "whatever the seed");
}

#[tokio::test(start_paused = true)]
async fn by_chance_a_seed_repeats_the_sample() {
    let (one, again, other) =
        (mirrored(0.1, false, 1).await, mirrored(0.1, false, 1).await, mirrored(0.1, false, 2).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[tokio::test(start_paused = true)]
async fn the_sample_has_nothing_to_do_with_what_the_hash_of_the_key_decides_below() {
    let sampled = mirrored(0.25, true, 1).await;

    // What a ring below places by.
    let hash = |path: &String| Hashing::default().of(path.trim_start_matches('/').as_bytes());
    let low = sampled.iter().filter(|path| hash(path) < u64::MAX / 2).count();

    let half = sampled.len() / 2;
    assert!(low.abs_diff(half) < sampled.len() / 8, "{low} of {}", sampled.len());
}
