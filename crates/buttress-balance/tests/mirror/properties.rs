use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_copy_has_the_body_that_the_main_service_reads(
        frames in vec("[a-z]{0,8}", 0..8),
        chunked in any::<bool>(),
        ends in 0..3_u8,
        limit in 0..40_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (shadow, seen) = recorder();
            let layer = mirror(shadow).body_limit(limit);
            let whole = frames.concat();
            let mut body = frames.into_iter().fold(ScriptedBody::new(), ScriptedBody::data);
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "42".parse().unwrap());
            match ends {
                1 => body = body.trailers(trailers.clone()).chunked(),
                2 => body = body.error("the client is gone").chunked(),
                _ if chunked => body = body.chunked(),
                _ => {}
            }

            let answer = send(layer.layer(echo()), post(body)).await;
            settle().await;

            let is_whole = ends != 2;
            prop_assert_eq!(answer.is_ok(), is_whole);
            let expected = if is_whole && whole.len() <= limit {
                vec![(Bytes::from(whole), (ends == 1).then_some(trailers))]
            } else {
                vec![]
            };
            let handle = layer.handle();
            prop_assert_eq!(handle.counts().mirrored, expected.len() as u64);
            prop_assert_eq!(handle.counts().mirrored + handle.counts().not_mirrored, 1, "each is counted once");
            prop_assert_eq!(handle.in_flight(), 0);
            prop_assert_eq!(seen.all().into_iter().map(Request::into_body).collect::<Vec<_>>(), expected);
            Ok(())
        })?;
    }
}
