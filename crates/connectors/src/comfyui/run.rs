use pointsman_comfyui::graph;
use pointsman_core::{Failure, FailureKind};
use serde_json::{Map, Value, json};

use super::{
    ComfyUiConnector,
    ears::Ears,
    outputs::Collected,
    payload::{ComfyUiPayload, PayloadError},
    submit::Submitted,
    watch::Done,
};
use crate::{Completion, RunContext, RunEnd, Task};

/// One attempt at a prompt.
pub(super) struct Run<'a> {
    pub(super) connector: &'a ComfyUiConnector,
    pub(super) task: &'a Task,
    pub(super) context: &'a RunContext,
    /// The attempt's token: the prompt's id and the websocket's.
    pub(super) prompt_id: String,
    pub(super) graph: Value,
    pub(super) extra_data: Map<String, Value>,
    pub(super) allow_partial: bool,
    /// What the job allowed ComfyUI to drop, and why it did, as its answer to the submission said; said
    /// with the result.
    pub(super) dropped: Option<String>,
}

/// Runs one attempt to its end.
pub(super) async fn run(
    connector: &ComfyUiConnector,
    task: &Task,
    context: &RunContext,
) -> Result<Completion, RunEnd> {
    let payload = ComfyUiPayload::parse(&task.payload).map_err(bad_payload)?;
    let mut run = Run::new(connector, task, context, payload);
    if !task.adopted {
        run.bring_inputs().await?;
    }
    let done = run.follow(!task.adopted).await?;
    match run.collect(done).await? {
        Collected::All(completion) => return Ok(completion),
        Collected::Gone(gone) => run.prepare_again(&gone).await?,
    }
    if task.adopted {
        run.bring_inputs().await?;
    }
    let done = run.follow(true).await?;
    match run.collect(done).await? {
        Collected::All(completion) => Ok(completion),
        Collected::Gone(gone) => Err(gone.failure().into()),
    }
}

impl<'a> Run<'a> {
    fn new(
        connector: &'a ComfyUiConnector,
        task: &'a Task,
        context: &'a RunContext,
        payload: ComfyUiPayload,
    ) -> Self {
        let ComfyUiPayload { workflow, mut extra_data, allow_partial } = payload;
        extra_data.insert("owner".to_owned(), json!((connector.settings.owner)()));
        // A server sends no previews unless it is asked to; older versions ignore it.
        extra_data.entry("preview_method").or_insert_with(|| json!("auto"));
        let prompt_id = task.held.token.to_string();
        let tag = &connector.written.tag;
        let graph = graph::with_fresh_prefix(&workflow, &format!("-{tag}"));
        // ComfyUI keeps, beside what became of the prompt, what to take out of the names of its files:
        // it may be read by a later run of the worker.
        extra_data.insert("file_tag".to_owned(), json!(tag));
        let dropped = None;
        Self { connector, task, context, prompt_id, graph, extra_data, allow_partial, dropped }
    }

    /// Submits the prompt, unless the service has it already, and follows it until it ran to its end.
    /// Nobody listens any more then: storing files may take long.
    async fn follow(&mut self, submits: bool) -> Result<Done, RunEnd> {
        let pace = &self.connector.settings.pace;
        let mut ears = Ears::new(&self.connector.client, &self.prompt_id, pace.reconnect);
        let mut submitted = Submitted::Before;
        if submits {
            // Before the submission, or a cached prompt is over before anyone listens.
            drop(tokio::time::timeout(pace.socket_first, ears.next()).await);
            submitted = self.submit().await?;
        }
        self.context.started();
        self.watch(&mut ears, submitted).await
    }

    /// Ends with `Cancelled` when told to stop: for everything before the submission.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, RunEnd> {
        tokio::select! {
            biased;
            _ = self.context.stop().raised() => Err(RunEnd::Cancelled),
            done = work => Ok(done),
        }
    }
}

fn bad_payload(error: PayloadError) -> RunEnd {
    Failure::new(FailureKind::BadJob, "invalid_payload", error.to_string()).into()
}
