//! A service that does what each job's payload says.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_connectors::{
    ByteStream, Completion, Connector, Health, HostError, NewArtifact, NotClear, Preview, Report,
    RunContext, RunEnd, Source, SourceError, StopReason, Task, Unavailable,
};
use pointsman_core::{
    Failure, FailureKind, LossReason, ServiceName, Token,
    command::Held,
    matching::ServiceCapabilities,
    record::{ArtifactType, ConnectorStatus},
};

pub struct FakeService {
    name: ServiceName,
    state: Mutex<State>,
}

pub struct State {
    pub health: Health,
    pub version: String,
    pub models: BTreeSet<String>,
    /// How often it was asked what it has.
    pub asked: usize,
    /// How long it takes to clear it.
    pub clearing_takes: Duration,
    /// Why it cannot be proven clear.
    pub not_clear: Option<String>,
    /// What it still has from before a restart.
    pub ghosts: BTreeSet<Token>,
    /// Every run, with whether it was adopted.
    pub runs: Vec<(Held, bool)>,
    /// What it was told is still ours, each time it was cleared.
    pub clearings: Vec<Vec<Held>>,
}

impl FakeService {
    pub fn new(name: &str) -> Self {
        Self {
            name: ServiceName::new(name).unwrap(),
            state: Mutex::new(State {
                health: Health::idle(),
                version: "1.0".into(),
                models: BTreeSet::new(),
                asked: 0,
                clearing_takes: Duration::ZERO,
                not_clear: None,
                ghosts: BTreeSet::new(),
                runs: Vec::new(),
                clearings: Vec::new(),
            }),
        }
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    pub fn runs(&self) -> usize {
        self.state.lock().runs.len()
    }
}

#[async_trait]
impl Connector for FakeService {
    fn service(&self) -> &ServiceName {
        &self.name
    }

    async fn probe(&self) -> Health {
        self.state.lock().health.clone()
    }

    async fn capabilities(&self) -> Result<ServiceCapabilities, Unavailable> {
        let mut state = self.state.lock();
        state.asked += 1;
        match state.health.status {
            ConnectorStatus::Idle => Ok(ServiceCapabilities {
                version: Some(state.version.clone()),
                models: state.models.clone(),
                ..ServiceCapabilities::default()
            }),
            _ => Err(Unavailable("not up".into())),
        }
    }

    async fn run(&self, task: Task, context: RunContext) -> Result<Completion, RunEnd> {
        self.state.lock().runs.push((task.held, task.adopted));
        match std::str::from_utf8(&task.payload).unwrap() {
            "done" => {
                context.started();
                Ok(Completion::default())
            }
            "slow" => slow(&context, Duration::from_secs(8)).await,
            "hour" => slow(&context, Duration::from_secs(3600)).await,
            "unstarted" => Err(until_stopped(&context).await),
            "starts-later" => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                slow(&context, Duration::from_secs(3600)).await
            }
            "deaf" => {
                context.started();
                std::future::pending().await
            }
            "wedge" if task.adopted => Ok(Completion { cached: true, ..Completion::default() }),
            "wedge-lost" if task.adopted => Err(until_stopped(&context).await),
            "wedge" | "wedge-lost" => {
                context.started();
                until_stopped(&context).await;
                let (reason, message) = (LossReason::Stalled, "stuck".into());
                Err(RunEnd::Wedged { reason, message, failure: None })
            }
            "wedge-stalled" if task.adopted => Ok(Completion::default()),
            "wedge-stalled" => {
                context.started();
                let (reason, message) = (LossReason::Stalled, "stuck".into());
                Err(RunEnd::Wedged { reason, message, failure: None })
            }
            "wedge-failed" => {
                let failure = Failure::new(FailureKind::BadJob, "part", "only a part would run");
                let (reason, message) = (LossReason::Unstarted, "stuck".into());
                Err(RunEnd::Wedged { reason, message, failure: Some(Box::new(failure)) })
            }
            "late" => {
                context.started();
                until_stopped(&context).await;
                Ok(Completion { cached: true, ..Completion::default() })
            }
            "lost" => Err(RunEnd::gave_back(LossReason::ServiceLost, "restarted")),
            "wrong" => {
                Err(Failure::new(FailureKind::WrongWorker, "missing", "no such model").into())
            }
            "fault" => Err(Failure::new(FailureKind::ServiceFault, "boom", "boom").into()),
            "verbose" => {
                let message = Some("m".repeat(1_000_000));
                context.progress(Report { message, ..Report::default() });
                slow(&context, Duration::from_secs(8)).await?;
                let message = "m".repeat(1_000_000);
                Err(Failure::new(FailureKind::ServiceFault, "boom", message).into())
            }
            "deep" => {
                context.started();
                let result = (0..200).fold(
                    serde_json::json!(1),
                    |within, _| serde_json::json!({ "within": within }),
                );
                Ok(Completion { result: Some(result), ..Completion::default() })
            }
            "large" => {
                context.started();
                let result = Some(serde_json::json!({ "text": "x".repeat(1_000_000) }));
                Ok(Completion { result, ..Completion::default() })
            }
            "panic" => panic!("asked to"),
            "file" => file(&context, &Bytes::from_static(b"picture")).await,
            "broken-file" => file(&context, &Odd::Breaks(3.into())).await,
            "unreadable-file" => file(&context, &Odd::Unreadable(3.into())).await,
            "gone-file" => file(&context, &Odd::Gone).await,
            "slow-file" => file(&context, &Odd::Slow).await,
            "not-taken" => Err(RunEnd::gave_back(LossReason::Unstarted, "the submission was lost")),
            "input" => {
                let Some(input) = task.job.spec.inputs.first() else { panic!("no input") };
                let found = context.open_input(&input.from).await;
                found.map(|_| Completion::default()).map_err(failed)
            }
            "progress-once" => {
                context.progress(Report { step: Some(1), ..Report::default() });
                slow(&context, Duration::from_secs(3600)).await
            }
            "silent" => {
                let says =
                    |message: &str| Report { message: Some(message.into()), ..Report::default() };
                context.progress(says("waits"));
                tokio::time::sleep(Duration::from_secs(2)).await;
                context.started();
                tokio::time::sleep(Duration::from_secs(3)).await;
                context.progress(says("silent for 3 s"));
                slow(&context, Duration::from_secs(3600)).await
            }
            "progress" => {
                for step in 0..100 {
                    context.progress(Report { step: Some(step), ..Report::default() });
                    context
                        .preview(Preview { media_type: "image/png".into(), bytes: Bytes::new() });
                    context.tick();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(Completion::default())
            }
            other => panic!("no such behaviour: {other}"),
        }
    }

    async fn clear_ghosts(&self, ours: &[Held]) -> Result<Vec<Held>, NotClear> {
        let takes = self.with(|s| {
            s.clearings.push(ours.to_vec());
            s.clearing_takes
        });
        tokio::time::sleep(takes).await;
        let state = self.state.lock();
        if let Some(why) = &state.not_clear {
            return Err(NotClear(why.clone()));
        }
        let found = ours.iter().filter(|held| state.ghosts.contains(&held.token));
        Ok(found.copied().collect())
    }

    async fn knows(&self, cleared: &[Held]) -> Result<Vec<Held>, NotClear> {
        let state = self.state.lock();
        let known = cleared.iter().filter(|held| state.ghosts.contains(&held.token));
        Ok(known.copied().collect())
    }
}

async fn slow(context: &RunContext, span: Duration) -> Result<Completion, RunEnd> {
    context.started();
    let end = tokio::time::Instant::now() + span;
    loop {
        context.tick();
        tokio::select! {
            () = tokio::time::sleep_until(end) => return Ok(Completion::default()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = context.stop().raised() => return Err(RunEnd::Cancelled),
        }
    }
}

async fn until_stopped(context: &RunContext) -> RunEnd {
    loop {
        context.tick();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            reason = context.stop().raised() => {
                assert!(reason >= StopReason::Drain);
                return RunEnd::Cancelled;
            }
        }
    }
}

async fn file(context: &RunContext, source: &dyn Source) -> Result<Completion, RunEnd> {
    context.started();
    let artifact = NewArtifact {
        name: "9-0-a.png".into(),
        media_type: "image/png".into(),
        node: Some("9".into()),
        kind: ArtifactType::Output,
        size: None,
    };
    let stored = context.put_artifact(artifact, source).await.map_err(failed)?;
    Ok(Completion { artifacts: vec![stored], ..Completion::default() })
}

fn failed(error: HostError) -> RunEnd {
    if error == HostError::Fenced {
        return RunEnd::Cancelled;
    }
    Failure::new(FailureKind::ServiceFault, "file", error.to_string()).into()
}

/// A file that is not simply there.
enum Odd {
    /// Breaks off after its first chunk, so many times.
    Breaks(AtomicU32),
    /// Cannot be opened, so many times.
    Unreadable(AtomicU32),
    Gone,
    /// Takes half a minute to open.
    Slow,
}

fn again(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl Source for Odd {
    async fn open(&self) -> Result<ByteStream, SourceError> {
        let mut chunks = vec![Ok(Bytes::from_static(b"pic")), Ok(Bytes::from_static(b"ture"))];
        match self {
            Self::Breaks(left) if again(left) => {
                chunks[1] = Err(std::io::Error::other("cut off"));
            }
            Self::Unreadable(left) if again(left) => {
                return Err(SourceError::Unreadable("answered 503".into()));
            }
            Self::Breaks(_) | Self::Unreadable(_) => {}
            Self::Gone => return Err(SourceError::Gone),
            Self::Slow => tokio::time::sleep(Duration::from_secs(30)).await,
        }
        Ok(Box::pin(futures::stream::iter(chunks)))
    }
}
