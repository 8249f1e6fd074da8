use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What goes wrong, on demand. Each reproduces something that real servers do.
///
/// Set in the config, by [`crate::SimHandle::set_faults`], by `POST /sim/faults` (replaces all), or for one prompt in
/// `extra_data.sim_faults` of its submission (added to the others). They stay until replaced.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// New websockets are accepted and never hear anything. Not per prompt.
    pub socket_deaf: bool,
    /// All websockets are cut, without close frame, when the first node of a prompt starts.
    pub socket_cut: bool,
    /// The prompt is done, but for this many ms it stays in the running queue and has no history.
    pub history_delay_ms: u64,
    /// An `ExecutionBlocked` error is reported and the prompt goes on to its success.
    pub error_then_success: bool,
    /// A node fails, yet history says `status_str: "success"`.
    pub success_with_error: bool,
    /// The thread that runs prompts dies: the prompt stays in the running queue, and the rest waits, until a restart.
    pub dead_prompt_thread: bool,
    /// The same between two prompts: nothing runs, and all wait. Not per prompt.
    pub idle_prompt_thread_dead: bool,
    /// The process ends when the first node of a prompt starts.
    pub process_exit: bool,
    /// The process restarts when the first node of a prompt starts: queue, history and cache are lost.
    pub restart: bool,
    /// Every answer of the HTTP server comes this many ms late. Not per prompt.
    pub http_stall_ms: u64,
    /// Validation takes this many ms, and everything else on the event loop waits for it.
    pub slow_validation_ms: u64,
    /// The first node that runs raises `torch.OutOfMemoryError`.
    pub out_of_memory: bool,
    /// The first node that runs raises a CUDA error, and so does every later prompt until a restart.
    pub device_error: bool,
    /// The first node that runs says nothing for this many seconds and cannot be interrupted meanwhile.
    pub silent_node_s: f64,
    /// Before each submission, another client's prompt of this many seconds is queued.
    pub foreign_prompt_s: f64,
    /// The output files are deleted before the prompt's history is written.
    pub file_gone: bool,
    /// Output files are refused with 403, as those outside ComfyUI's folders are. Not per prompt.
    pub file_refused: bool,
    /// History and node classes hold what Python writes and JSON does not allow: `NaN`, half a surrogate pair, 150
    /// levels. Not per prompt.
    pub python_json: bool,
    /// History answers with a page that is no JSON. Not per prompt.
    pub unreadable_history: bool,
    /// The prompt is treated as if it had run before: every node is cached, and nothing takes time.
    pub cached: bool,
}

/// A fault that is not known, or whose value does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault {fault:?}: {reason}")]
pub struct UnknownFault {
    /// What was given.
    pub fault: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Faults {
    /// Both sets together: what either has, and of two durations the longer.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            socket_deaf: self.socket_deaf || other.socket_deaf,
            socket_cut: self.socket_cut || other.socket_cut,
            history_delay_ms: self.history_delay_ms.max(other.history_delay_ms),
            error_then_success: self.error_then_success || other.error_then_success,
            success_with_error: self.success_with_error || other.success_with_error,
            dead_prompt_thread: self.dead_prompt_thread || other.dead_prompt_thread,
            idle_prompt_thread_dead: self.idle_prompt_thread_dead || other.idle_prompt_thread_dead,
            process_exit: self.process_exit || other.process_exit,
            restart: self.restart || other.restart,
            http_stall_ms: self.http_stall_ms.max(other.http_stall_ms),
            slow_validation_ms: self.slow_validation_ms.max(other.slow_validation_ms),
            out_of_memory: self.out_of_memory || other.out_of_memory,
            device_error: self.device_error || other.device_error,
            silent_node_s: self.silent_node_s.max(other.silent_node_s),
            foreign_prompt_s: self.foreign_prompt_s.max(other.foreign_prompt_s),
            file_gone: self.file_gone || other.file_gone,
            file_refused: self.file_refused || other.file_refused,
            python_json: self.python_json || other.python_json,
            unreadable_history: self.unreadable_history || other.unreadable_history,
            cached: self.cached || other.cached,
        }
    }
}

impl FromStr for Faults {
    type Err = UnknownFault;

    /// Reads `name` or `name=value`, several with commas between them: `socket_deaf,history_delay_ms=500`.
    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        text.split(',').filter(|fault| !fault.trim().is_empty()).try_fold(
            Self::default(),
            |faults, fault| {
                let (name, value) = fault.trim().split_once('=').unwrap_or((fault.trim(), "true"));
                let invalid =
                    |reason: String| UnknownFault { fault: fault.trim().to_owned(), reason };
                let value: Value =
                    serde_json::from_str(value).map_err(|error| invalid(error.to_string()))?;
                let one = Value::Object(Map::from_iter([(name.to_owned(), value)]));
                let one: Self =
                    serde_json::from_value(one).map_err(|error| invalid(error.to_string()))?;
                Ok(faults.and(&one))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_a_command_line() {
        let faults: Faults = "socket_deaf, history_delay_ms=500,silent_node_s=1.5".parse().unwrap();
        let expected = Faults {
            socket_deaf: true,
            history_delay_ms: 500,
            silent_node_s: 1.5,
            ..Faults::default()
        };
        assert_eq!(faults, expected);
        assert_eq!("".parse(), Ok(Faults::default()));
    }

    #[test]
    fn an_unknown_fault_is_refused_by_name() {
        assert_eq!("sleepy".parse::<Faults>().unwrap_err().fault, "sleepy");
        assert_eq!("socket_deaf=3".parse::<Faults>().unwrap_err().fault, "socket_deaf=3");
    }
}
