//! Does to the simulator what was done to real servers, and compares what comes back: the same types in the same order,
//! with the same fields. Times, ids and file names differ.

mod replay;
mod shape;

use pointsman_comfyui_sim::Version;
use replay::Recording;

const VERSIONS: [Version; 2] = [Version::V0_3_64, Version::V0_27];

/// Scenarios that happened after `normal` on the same server, whose results they find in the cache.
const AFTER_NORMAL: [&str; 4] =
    ["fully_cached", "partly_cached", "cached_socket_too_late", "routes"];

async fn compare(scenario: &str) {
    futures::future::join_all(VERSIONS.map(|version| compare_with(version, scenario))).await;
}

async fn compare_with(version: Version, scenario: &str) {
    let recording = Recording::load(version, scenario);
    let before = AFTER_NORMAL.contains(&scenario).then(|| Recording::load(version, "normal"));
    let real = recording.heard();
    let simulated = recording.replay(before).await;
    for (socket, messages) in &real.sockets {
        assert!(!messages.is_empty());
        assert_eq!(simulated.sockets[socket], *messages, "{scenario} {version:?}: {socket:?}");
    }
    assert_eq!(simulated.statuses, real.statuses, "{scenario} {version:?}: status messages");
    assert_eq!(simulated.answers.len(), real.answers.len(), "{scenario} {version:?}");
    for (real, simulated) in real.answers.iter().zip(&simulated.answers) {
        assert_eq!(simulated, real, "{scenario} {version:?}");
    }
}

macro_rules! scenarios {
    ($($name:ident)*) => { $(
        #[tokio::test]
        async fn $name() {
            compare(stringify!($name)).await;
        }
    )* };
}

scenarios! {
    cached_socket_too_late client_chosen_prompt_id deleted_from_queue fully_cached interrupt_of_another interrupted
    normal partly_cached preview_without_metadata progress progress_with_preview rejected routes runtime_error
    second_listener silent_node socket_reconnects
}
