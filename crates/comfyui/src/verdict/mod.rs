use crate::{ExecutionError, HistoryEntry, Interruption, OutputFile, QueueEntry, QueueState};

/// What `/queue` and `/history` together say about one prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is in the running queue. Whether the thread behind it lives cannot be seen from here.
    Running,
    /// It waits behind something.
    Pending {
        /// How many prompts run or wait before it; 0 means it is next.
        position: usize,
        /// How many of those belong to another client.
        foreign_ahead: usize,
    },
    /// It ran to its end. It counts as done only when every one of these files has been fetched.
    Succeeded(Vec<OutputFile>),
    /// A node raised an error.
    Failed(ExecutionError),
    /// It was stopped from outside.
    Interrupted(Interruption),
    /// It is in history, with neither success nor a reason.
    FailedInternal {
        /// ComfyUI's `status_str`, or a word for its absence.
        status: String,
    },
    /// It is in neither place: the service restarted, or somebody deleted it. Never "done".
    Lost,
}

impl Verdict {
    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Running | Self::Pending { .. })
    }
}

/// Judges a prompt by what `/queue` said and what `/history/{prompt_id}` said **after** that.
///
/// The order matters: a prompt moves from the queue into history in one locked step (ComfyUI source), so whoever reads
/// the queue first finds it in at least one of the two. For the same reason history wins where both have it.
#[must_use]
pub fn verdict(prompt_id: &str, queue: &QueueState, history: Option<&HistoryEntry>) -> Verdict {
    if let Some(entry) = history {
        return ended(entry);
    }
    if queue.running.iter().any(|entry| entry.prompt_id == prompt_id) {
        return Verdict::Running;
    }
    match queue.pending.iter().position(|entry| entry.prompt_id == prompt_id) {
        Some(index) => pending(queue, index),
        None => Verdict::Lost,
    }
}

/// Judges a prompt that is in history. An error counts whatever `status_str` says; success needs both signs.
fn ended(entry: &HistoryEntry) -> Verdict {
    if let Some(interruption) = entry.interruption() {
        return Verdict::Interrupted(interruption);
    }
    if let Some(error) = entry.execution_error() {
        return Verdict::Failed(error);
    }
    let status = entry.status.as_ref().map_or("no status", |status| status.status_str.as_str());
    if status == "success" && entry.message("execution_success").is_some() {
        return Verdict::Succeeded(entry.output_files());
    }
    Verdict::FailedInternal { status: status.to_owned() }
}

fn pending(queue: &QueueState, index: usize) -> Verdict {
    let own = &queue.pending[index];
    let ahead = || queue.running.iter().chain(&queue.pending[..index]);
    let foreign =
        |entry: &&QueueEntry| entry.client_id.is_none() || entry.client_id != own.client_id;
    Verdict::Pending { position: ahead().count(), foreign_ahead: ahead().filter(foreign).count() }
}

#[cfg(test)]
mod tests;
