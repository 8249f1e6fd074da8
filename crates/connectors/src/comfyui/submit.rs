use std::{collections::BTreeSet, time::Duration};

use pointsman_comfyui::{
    NodeErrors, Rejection, RequestError, Submission, SubmitError, Truth, Verdict, classify, graph,
};
use pointsman_core::{Failure, FailureKind, LossReason};
use tokio::time::Instant;

use super::run::Run;
use crate::RunEnd;

/// A prompt whose submission got no answer and that is nowhere for this long was not taken.
const NOWHERE_FOR: Duration = Duration::from_secs(2);
/// How long a service is asked about a submission that got no answer.
const ASK_FOR: Duration = Duration::from_secs(60);

/// How the service came to have a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Submitted {
    /// It was submitted, and the answer says that it runs as a whole, or it may run in part.
    Answered,
    /// It was submitted and is there, and the answer was lost.
    Unanswered,
    /// Another run of the worker submitted it.
    Before,
}

impl Run<'_> {
    /// Submits the prompt, once. When its answer is lost, the service is asked what became of it.
    pub(super) async fn submit(&mut self) -> Result<Submitted, RunEnd> {
        self.unless_stopped(std::future::ready(())).await?;
        let submission = Submission {
            graph: &self.graph,
            prompt_id: &self.prompt_id,
            client_id: &self.prompt_id,
            extra_data: &self.extra_data,
        };
        // Waited for even when told to stop: a submission that is broken off may still arrive.
        match self.context.ticking(self.connector.client.submit(&submission)).await {
            Ok(reply) if reply.node_errors.is_empty() => Ok(Submitted::Answered),
            Ok(reply) if self.allow_partial => {
                self.dropped = Some(self.dropped(reply.node_errors));
                Ok(Submitted::Answered)
            }
            Ok(reply) => Err(self.refuse_partial(self.node_failure(reply.node_errors)).await),
            Err(SubmitError::Unknown(why)) => {
                self.look_up(why).await?;
                Ok(Submitted::Unanswered)
            }
            Err(refused) => Err(self.refusal(refused)),
        }
    }

    fn refusal(&self, error: SubmitError) -> RunEnd {
        let message = error.to_string();
        match error {
            SubmitError::Rejected(rejection) => {
                let classified = classify::rejection(&rejection);
                self.connector.failure(&self.prompt_id, classified).into()
            }
            SubmitError::TooLarge { .. } => {
                Failure::new(FailureKind::BadJob, "graph_too_large", message).into()
            }
            SubmitError::Refused { .. } => {
                Failure::new(FailureKind::ServiceFault, "submission_refused", message).into()
            }
            SubmitError::Unreachable { .. } | SubmitError::Unknown(_) => {
                RunEnd::gave_back(LossReason::Unstarted, message)
            }
        }
    }

    /// Which outputs do not run, and why the first of them does not.
    fn dropped(&self, node_errors: NodeErrors) -> String {
        let outputs: BTreeSet<_> =
            node_errors.values().flat_map(|node| node.dependent_outputs.clone()).collect();
        let outputs = Vec::from_iter(outputs).join(", ");
        let Failure { message, node, .. } = self.node_failure(node_errors);
        let at = node.map_or(String::new(), |node| format!(" (node {node})"));
        format!("ComfyUI dropped the outputs of the nodes {outputs}: {message}{at}")
    }

    fn node_failure(&self, node_errors: NodeErrors) -> Failure {
        let rejection = Rejection { node_errors, ..Rejection::default() };
        self.connector.failure(&self.prompt_id, classify::rejection(&rejection))
    }

    /// Accepted with errors: the outputs that are wrong were dropped, and the rest would run.
    async fn refuse_partial(&self, mut failure: Failure) -> RunEnd {
        failure.message = format!("only a part of the graph would run: {}", failure.message);
        match self.make_it_stop(LossReason::Unstarted).await {
            // Given back, it would come again, to run for nothing in the same way.
            Err(RunEnd::Wedged { reason, message, .. }) => {
                RunEnd::Wedged { reason, message, failure: Some(Box::new(failure)) }
            }
            Err(end) => end,
            Ok(_) => failure.into(),
        }
    }

    /// Makes sure that ComfyUI dropped no output of a prompt whose submission's answer nobody read, unless
    /// it may. Why it did was said there alone, so the job is tried again, which says it anew.
    pub(super) async fn check_whole(&self, truth: &Truth) -> Result<(), RunEnd> {
        let ends_otherwise =
            truth.verdict.is_final() && !matches!(truth.verdict, Verdict::Succeeded(_));
        if self.allow_partial || ends_otherwise {
            return Ok(());
        }
        let dropped = self.outputs_but(truth.outputs_to_execute(&self.prompt_id));
        let Some(first) = dropped.first() else { return Ok(()) };
        let message = why_is_lost(&dropped);
        let node = Some((*first).to_owned());
        let failure = Failure::new(FailureKind::ServiceFault, "outputs_dropped", message);
        Err(self.refuse_partial(Failure { node, ..failure }).await)
    }

    /// What the job allowed ComfyUI to drop of a prompt that ran these outputs; none where all ran.
    pub(super) fn dropped_but(&self, ran: Option<&[String]>) -> Option<String> {
        self.dropped.clone().or_else(|| {
            let dropped = self.outputs_but(ran);
            (!dropped.is_empty()).then(|| why_is_lost(&dropped))
        })
    }

    /// The outputs that do not run, where it is known which are outputs and which of them run.
    fn outputs_but(&self, run: Option<&[String]>) -> Vec<&str> {
        let Some(run) = run else { return Vec::new() };
        let mut outputs =
            graph::nodes_of(&self.graph, &self.connector.condition.lock().output_classes);
        outputs.retain(|id| !run.iter().any(|run| run == id));
        outputs
    }

    /// Nobody knows whether the prompt was taken: it is looked for before anything else is done.
    async fn look_up(&self, why: RequestError) -> Result<(), RunEnd> {
        tracing::info!(prompt = self.prompt_id, %why, "submitted, and no answer");
        let pace = self.connector.settings.pace;
        let begin = Instant::now();
        let (mut nowhere_since, mut dead_since) = (None, None);
        let mut pause = pace.truth_first;
        while begin.elapsed() < ASK_FOR {
            let truth = self.connector.client.truth(&self.prompt_id);
            match self.context.ticking(truth).await {
                Ok(truth) if truth.verdict != Verdict::Lost => return Ok(()),
                Ok(_) => {
                    dead_since = None;
                    let since = *nowhere_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= NOWHERE_FOR {
                        return Err(not_taken(&why));
                    }
                }
                Err(error) => match self.dead_after(&error) {
                    Some(dead_after) => {
                        let since = *dead_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= dead_after {
                            let message = format!("the service died at the submission: {error}");
                            return Err(RunEnd::gave_back(LossReason::ServiceLost, message));
                        }
                    }
                    None => dead_since = None,
                },
            }
            self.context.ticking(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(pace.truth_most);
        }
        // It may still be taken, so it must be stopped before anybody else gets the job.
        self.make_it_stop(LossReason::ServiceLost).await?;
        Err(RunEnd::gave_back(LossReason::ServiceLost, format!("no answer: {why}")))
    }
}

fn why_is_lost(dropped: &[&str]) -> String {
    let dropped = dropped.join(", ");
    format!(
        "ComfyUI dropped the outputs of the nodes {dropped}, and its answer that says why was lost"
    )
}

/// A prompt that is nowhere, at a service that is there. One whose submission was answered is not
/// lost: that it is not taken is the service's fault, or that of what stands before it, and may be so
/// each time.
fn not_taken(why: &RequestError) -> RunEnd {
    let refused =
        |message| Failure::new(FailureKind::ServiceFault, "submission_refused", message).into();
    match why {
        answer if answer.is_proxys() => refused(format!(
            "the submission did not reach ComfyUI, which answers otherwise: what stands before it \
             {why}"
        )),
        RequestError::Status { .. }
        | RequestError::Malformed { .. }
        | RequestError::TooLarge { .. } => {
            refused(format!("ComfyUI did not take the submission: {why}"))
        }
        RequestError::Unreachable { .. }
        | RequestError::TimedOut { .. }
        | RequestError::AnswerLost { .. } => {
            let message = format!("the submission was lost: {why}");
            RunEnd::gave_back(LossReason::Unstarted, message)
        }
    }
}
