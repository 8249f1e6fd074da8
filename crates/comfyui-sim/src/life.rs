use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::clock;
use crate::history::History;
use crate::hub::Hub;
use crate::queue::{Prompt, Queue};

/// Log entries that are kept (ComfyUI source).
const MAX_LOG_ENTRIES: usize = 300;

/// Everything that one process of ComfyUI remembers. A restart begins a new one.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) queue: Mutex<Queue>,
    pub(crate) history: Mutex<History>,
    pub(crate) cache: Mutex<Cache>,
    pub(crate) hub: Hub,
    pub(crate) interrupt: Interrupt,
    /// Woken when there is something to run, or to free.
    pub(crate) work: Notify,
    /// The node that runs, for a client that reconnects.
    pub(crate) current: Mutex<Option<CurrentNode>>,
    /// The accelerator can do nothing right any more.
    pub(crate) poisoned: AtomicBool,
    /// The cache is to be dropped between prompts.
    pub(crate) free_cache: AtomicBool,
    logs: Mutex<VecDeque<Value>>,
    ending: OnceLock<Ending>,
    /// Cancelled when the process ends.
    pub(crate) over: CancellationToken,
}

/// What a client is greeted with that reconnects in mid-run.
#[derive(Debug, Clone)]
pub(crate) struct CurrentNode {
    pub(crate) client_id: String,
    pub(crate) node: String,
}

/// Why a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It comes back.
    Restart,
    /// It does not come back by itself, or its owner is done with it.
    ForGood,
}

impl Life {
    /// Ends the process; the first reason counts.
    pub(crate) fn end(&self, why: Ending) {
        self.ending.get_or_init(|| why);
        self.over.cancel();
    }

    /// Why the process ended, once it has.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.get().copied().unwrap_or(Ending::ForGood)
    }

    /// Queues a prompt.
    pub(crate) fn submit(&self, prompt: Arc<Prompt>) {
        let mut queue = self.queue.lock();
        queue.push(prompt);
        self.send_status(&queue);
        drop(queue);
        self.work.notify_one();
    }

    /// Tells everybody how long the queue is. The queue is held meanwhile, so that the numbers come in their order.
    pub(crate) fn send_status(&self, queue: &Queue) {
        self.hub.send(None, "status", &json!({ "status": queue_info(queue) }));
    }

    /// Removes prompts that wait. ComfyUI says it twice when that leaves the queue empty (recording
    /// deleted_from_queue.json).
    pub(crate) fn delete(&self, id: &str) -> bool {
        let mut queue = self.queue.lock();
        let deleted = queue.delete(id);
        let times = if !deleted {
            0
        } else if queue.has_pending() {
            1
        } else {
            2
        };
        (0..times).for_each(|_| self.send_status(&queue));
        deleted
    }

    /// Adds to the console output.
    pub(crate) fn log(&self, text: &str) {
        let entry = json!({ "t": clock::log_time(), "m": format!("{text}\n") });
        let mut logs = self.logs.lock();
        if logs.len() == MAX_LOG_ENTRIES {
            logs.pop_front();
        }
        logs.push_back(entry.clone());
        drop(logs);
        self.hub.send_logs(&json!({ "entries": [entry], "size": { "cols": 80, "rows": 24 } }));
    }

    /// The newest console output.
    pub(crate) fn logs(&self) -> Vec<Value> {
        self.logs.lock().iter().cloned().collect()
    }
}

/// `exec_info`, as `GET /prompt` and `status` show it.
pub(crate) fn queue_info(queue: &Queue) -> Value {
    json!({ "exec_info": { "queue_remaining": queue.remaining() } })
}

/// Whether the prompt that runs is to be stopped.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    wanted: AtomicBool,
    changed: Notify,
}

/// The prompt was stopped from outside.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl Interrupt {
    /// Forgets a wish: at the start of every prompt, so that none leaks into the next (ComfyUI source).
    pub(crate) fn reset(&self) {
        self.wanted.store(false, Ordering::SeqCst);
    }

    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if self.wanted.load(Ordering::SeqCst) { Err(Interrupted) } else { Ok(()) }
    }

    /// Waits that long, unless interrupted before or meanwhile.
    pub(crate) async fn pause(&self, length: Duration) -> Result<(), Interrupted> {
        let mut changed = std::pin::pin!(self.changed.notified());
        changed.as_mut().enable();
        self.check()?;
        tokio::select! {
            () = tokio::time::sleep(length) => Ok(()),
            () = changed => self.check(),
        }
    }
}
