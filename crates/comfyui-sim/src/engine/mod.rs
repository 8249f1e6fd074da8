//! The thread that runs prompts, one at a time.

mod plan;
mod progress;
mod report;
mod run;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::json;

pub(crate) use progress::Progress;

use crate::life::Life;
use crate::queue::Prompt;
use crate::sim::Sim;
use run::Run;

/// Runs whatever is queued, for as long as the process lives.
pub(crate) async fn prompt_thread(sim: &Sim, life: &Life) -> Infallible {
    loop {
        let work = life.work.notified();
        if sim.faults().idle_prompt_thread_dead {
            std::future::pending::<Infallible>().await;
        }
        let taken = take(life);
        match taken {
            Some(prompt) => run_prompt(sim, life, &prompt).await,
            None if life.free_cache.swap(false, Ordering::SeqCst) => life.cache.lock().clear(),
            None => work.await,
        }
    }
}

fn take(life: &Life) -> Option<Arc<Prompt>> {
    let mut queue = life.queue.lock();
    let prompt = queue.take()?;
    life.send_status(&queue);
    Some(prompt)
}

async fn run_prompt(sim: &Sim, life: &Life, prompt: &Prompt) {
    let began = Instant::now();
    let faults = prompt.faults.and(&sim.faults());
    if faults.dead_prompt_thread {
        std::future::pending::<Infallible>().await;
    }
    life.interrupt.reset();
    let entry = Run::new(sim, life, prompt, faults).finish().await;
    life.log(&format!("Prompt executed in {:.2} seconds", began.elapsed().as_secs_f64()));
    // One lock over both, so that nobody finds the prompt in neither place.
    let mut queue = life.queue.lock();
    life.history.lock().insert(prompt.id.clone(), entry);
    queue.running = None;
    life.send_status(&queue);
    drop(queue);
    if let Some(client_id) = prompt.client_id() {
        life.hub.send(
            Some(client_id),
            "executing",
            &json!({ "node": null, "prompt_id": prompt.id }),
        );
    }
}
