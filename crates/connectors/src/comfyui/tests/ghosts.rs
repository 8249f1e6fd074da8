//! What a former life left on the service.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use pointsman_comfyui_sim::SimConfig;

use super::{Bench, comfy_task, picture, settings, sleeping};
use crate::{
    Connector as _, Task,
    comfyui::{ComfyUiConnector, ComfyUiSettings},
    testing::Witness,
};

/// Begins a run and loses the worker that began it.
async fn abandon(bench: &Bench, task: Task) {
    let running = bench.begin(task).await;
    running.run.abort();
    assert!(running.run.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_prompt_that_is_nobodys_any_more_is_cancelled_and_proven_gone() {
    let bench = Bench::new().await;
    let later = ComfyUiConnector::new(settings(&bench.sim.url(), "worker-a")).unwrap();
    for connector in [&*bench.connector, &later] {
        abandon(&bench, comfy_task(sleeping(30.0))).await;
        assert_eq!(bench.queue().await, 1);
        assert_eq!(connector.clear_ghosts(&[]).await, Ok(Vec::new()));
        assert_eq!(bench.queue().await, 0);
    }
}

#[tokio::test]
async fn prompts_of_another_worker_are_left_alone() {
    let bench = Bench::new().await;
    abandon(&bench, comfy_task(sleeping(30.0))).await;
    let other = ComfyUiConnector::new(settings(&bench.sim.url(), "worker-b")).unwrap();
    assert_eq!(other.clear_ghosts(&[]).await, Ok(Vec::new()));
    assert_eq!(bench.queue().await, 1);
}

#[tokio::test]
async fn a_prompt_that_the_worker_named_is_its_own_whatever_it_says_of_its_owner() {
    let bench = Bench::new().await;
    let task = comfy_task(sleeping(30.0));
    abandon(&bench, task.clone()).await;
    // The same worker by another name, as after an update.
    let renamed = ComfyUiConnector::new(settings(&bench.sim.url(), "worker-a@a-store")).unwrap();
    assert_eq!(renamed.clear_ghosts(&[]).await, Ok(Vec::new()));
    assert_eq!(bench.queue().await, 1, "it may be anybody's");
    assert_eq!(renamed.clear_ghosts(&[task.held]).await, Ok(vec![task.held]));
    // It could not be made to stop, or was given to another worker.
    assert_eq!(renamed.clear_ghosts(&[]).await, Ok(Vec::new()));
    assert_eq!(bench.queue().await, 0);
}

#[tokio::test]
async fn what_it_submitted_is_its_own_also_when_its_worker_has_another_store_since() {
    let moved = Arc::new(AtomicBool::new(false));
    let has_moved = moved.clone();
    let owner = move || match has_moved.load(Ordering::SeqCst) {
        false => "worker-a@old".to_owned(),
        true => "worker-a@new".to_owned(),
    };
    let with_owner = |settings: &mut ComfyUiSettings| settings.owner = Arc::new(owner);
    let bench = Bench::with(SimConfig::default(), with_owner).await;
    abandon(&bench, comfy_task(sleeping(30.0))).await;
    moved.store(true, Ordering::SeqCst);
    let other = ComfyUiConnector::new(settings(&bench.sim.url(), "worker-a@new")).unwrap();
    assert_eq!(other.clear_ghosts(&[]).await, Ok(Vec::new()));
    assert_eq!(bench.queue().await, 1, "another process cannot know that it is its own");
    assert_eq!(bench.connector.clear_ghosts(&[]).await, Ok(Vec::new()));
    assert_eq!(bench.queue().await, 0);
}

#[tokio::test]
async fn what_is_still_ours_is_found_and_adopted_running_or_ended() {
    let bench = Bench::new().await;
    let running = comfy_task(sleeping(1.0));
    abandon(&bench, running.clone()).await;
    let ended = comfy_task(picture(1));
    abandon(&bench, ended.clone()).await;
    let gone = comfy_task(picture(2));
    let ours = [running.held, ended.held, gone.held];
    let found = bench.connector.clear_ghosts(&ours).await.unwrap();
    assert_eq!(found, [running.held, ended.held]);
    for task in [running, ended] {
        let task = Task { adopted: true, ..task };
        let completion = bench.run_task(task, Witness::new()).await.unwrap();
        assert_eq!(completion.artifacts.len(), 1);
    }
    // The ended one once more: nothing was begun again.
    assert_eq!(bench.queue().await, 0);
}

#[tokio::test]
async fn a_dead_service_has_no_ghosts() {
    let bench = Bench::new().await;
    let task = comfy_task(sleeping(30.0));
    abandon(&bench, task.clone()).await;
    let Bench { sim, connector } = bench;
    sim.stop().await;
    assert_eq!(connector.clear_ghosts(&[task.held]).await, Ok(Vec::new()));
}
