//! The built-in service that only pretends to work. It needs nothing installed.

mod payload;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use pointsman_core::{
    Failure, FailureKind, ServiceName, command::Held, matching::ServiceCapabilities,
};
use tokio::time::Instant;

pub use payload::{PayloadError, SimulatedFailure, Simulation};

use crate::{
    Completion, Connector, Health, NotClear, Report, RunContext, RunEnd, Task, Unavailable,
};

/// The longest time between two ticks of a simulated job.
const SLICE: Duration = Duration::from_secs(1);

/// Drives the simulation.
#[derive(Debug, Clone)]
pub struct SimulationConnector {
    service: ServiceName,
}

impl SimulationConnector {
    /// A simulation that jobs reach under `service`, usually `simulation`.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self { service }
    }
}

#[async_trait]
impl Connector for SimulationConnector {
    fn service(&self) -> &ServiceName {
        &self.service
    }

    async fn probe(&self) -> Health {
        Health::idle()
    }

    async fn capabilities(&self) -> Result<ServiceCapabilities, Unavailable> {
        Ok(ServiceCapabilities {
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..ServiceCapabilities::default()
        })
    }

    async fn run(&self, task: Task, context: RunContext) -> Result<Completion, RunEnd> {
        let simulation = Simulation::parse(&task.payload).map_err(bad_payload)?;
        context.started();
        if !simulation.duration.is_zero() {
            pretend(&simulation, &context).await?;
        }
        match simulation.fail {
            Some(fail) => Err(Failure::new(fail.kind, "simulated", fail.message).into()),
            None => Ok(Completion::default()),
        }
    }

    /// A simulated job lives in this process alone, so there is never a ghost.
    async fn clear_ghosts(&self, _ours: &[Held]) -> Result<Vec<Held>, NotClear> {
        Ok(Vec::new())
    }
}

/// Lets the time pass step by step.
async fn pretend(simulation: &Simulation, context: &RunContext) -> Result<(), RunEnd> {
    let begin = Instant::now();
    let steps = simulation.steps.max(1);
    for step in 1..=steps {
        let until = begin + simulation.duration * step / steps;
        while Instant::now() < until {
            context.tick();
            let slice = until.min(Instant::now() + SLICE);
            tokio::select! {
                () = tokio::time::sleep_until(slice) => {}
                _ = context.stop().raised() => return Err(RunEnd::Cancelled),
            }
        }
        context.event();
        context.progress(Report {
            percent: Some(100.0 * step as f32 / steps as f32),
            step: Some(step),
            steps: Some(steps),
            ..Report::default()
        });
    }
    Ok(())
}

fn bad_payload(error: PayloadError) -> RunEnd {
    Failure::new(FailureKind::BadJob, "invalid_payload", error.to_string()).into()
}
