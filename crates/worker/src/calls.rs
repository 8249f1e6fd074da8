//! Calls to the broker, repeated where repeating is right.

use std::{future::Future, pin::pin, time::Duration};

use pointsman_core::{
    Outage, Rejected,
    command::Exchange,
    decide::limits,
    matching::{RequirementError, ServiceCapabilities},
    to_json,
};
use tokio::time::Instant;

use crate::{
    WorkerError,
    backoff::Backoff,
    broker::{Arrival, BrokerError, Claimed, Exchanged, InEpoch},
    service::Service,
    shared::{Shared, bytes_of},
};

/// What a store that comes back from before may have lost was younger than this at the last contact.
pub const JUST_REGISTERED: Duration = Duration::from_secs(60);

/// What a failed call asks for.
pub(crate) enum Fault {
    /// Repeat it exactly.
    Again(String),
    /// The store does not know this worker any more: register, then repeat it.
    Unregistered,
    /// This worker must end.
    Fatal(WorkerError),
}

impl Shared {
    /// Whether the store may have come back from before this process's registration, and so know
    /// only the one before. Registering again tells: one that was superseded may not.
    fn had_just_registered(&self) -> bool {
        let Some(registered) = *self.registered_at.lock() else { return false };
        let contact = self.last_contact().unwrap_or(registered);
        contact.saturating_duration_since(registered) < JUST_REGISTERED
    }

    /// Sorts the failure of a call of a worker that is registered. Being refused is no reason to
    /// drop running jobs: it may be mended on the other side.
    pub(crate) fn fault(&self, error: BrokerError) -> Fault {
        match error {
            BrokerError::Rejected(Rejected::Superseded(_)) if self.had_just_registered() => {
                Fault::Unregistered
            }
            BrokerError::Rejected(Rejected::Superseded(_)) => {
                Fault::Fatal(WorkerError::Superseded(self.incarnation))
            }
            BrokerError::Rejected(Rejected::WorkerNotFound(_)) => Fault::Unregistered,
            BrokerError::Rejected(why) if why.may_pass() => Fault::Again(why.to_string()),
            BrokerError::Rejected(why) => Fault::Fatal(WorkerError::Rejected(why)),
            BrokerError::Newer(why) => Fault::Fatal(WorkerError::Newer(why)),
            BrokerError::Unreachable(why) | BrokerError::Refused(why) => Fault::Again(why),
        }
    }

    /// No claim after a call that failed, until a renewal has told whether the store is still the
    /// one that it was.
    fn look_for_contact(&self) {
        self.lose_contact();
        self.urgent.notify_one();
    }

    /// Waits for a call, but not for ever.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(BrokerError::Unreachable(format!("no answer within {} ms", limit.as_millis())))
            }
        }
    }

    /// Waits for a call whose answer may be long: up to `limit` for its beginning, and then as long as
    /// it goes on arriving.
    async fn arriving<T>(
        &self,
        limit: Duration,
        arrival: &Arrival,
        call: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let (mut call, mut limit) = (pin!(call), limit);
        let why = loop {
            tokio::select! {
                biased;
                answer = &mut call => return answer,
                () = arrival.next_move() => limit = self.call_limit(),
                () = tokio::time::sleep(limit) => match arrival.has_begun() {
                    true => break "no more of an answer",
                    false => break "no answer",
                },
            }
        };
        Err(BrokerError::Unreachable(format!("{why} within {} ms", limit.as_millis())))
    }

    /// Notes what a service has, for the next registration: whether that is news. What no store
    /// would take is not noted.
    pub(crate) async fn offer(
        &self,
        service: &Service,
        has: ServiceCapabilities,
    ) -> Result<bool, RequirementError> {
        let mut registration = self.registration.lock().await;
        let mut offered = registration.capabilities.clone();
        offered.services.insert(service.name.clone(), has);
        offered.check()?;
        let is_news = offered != registration.capabilities;
        registration.capabilities = offered;
        Ok(is_news)
    }

    /// Registers, trying until there is an answer.
    pub(crate) async fn register(&self, first: bool) -> Result<Vec<Claimed>, WorkerError> {
        let mut backoff = Backoff::new(&self.config.timings);
        let mut outage = Outage::default();
        let registration = self.registration.lock().await;
        // Thousands of models and nodes take their time on a slow line.
        let limit = self.call_limit() + limits::transfer(to_json(&registration.capabilities).len());
        loop {
            let arrival = Arrival::default();
            let call = self.broker.register(registration.clone(), &arrival);
            let why = match self.arriving(limit, &arrival, call).await {
                Ok(InEpoch { epoch, answer }) => {
                    self.see_epoch(epoch);
                    *self.registered_at.lock() = Some(Instant::now());
                    return Ok(answer);
                }
                Err(BrokerError::Rejected(Rejected::Superseded(_))) => {
                    return Err(WorkerError::Superseded(self.incarnation));
                }
                Err(BrokerError::Refused(why)) if first => return Err(WorkerError::Refused(why)),
                Err(error) => match self.fault(error) {
                    Fault::Fatal(error) => return Err(error),
                    Fault::Unregistered => "registration not taken".to_owned(),
                    Fault::Again(why) => why,
                },
            };
            if outage.failed(&why, Instant::now().into_std()) {
                tracing::warn!(worker = %self.config.worker, why, "cannot register yet");
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// The store forgot this worker: it registers again under the same incarnation.
    pub(crate) async fn register_again(&self) -> Result<(), WorkerError> {
        tracing::warn!(worker = %self.config.worker, "not registered any more, registering again");
        let running = self.register(false).await?;
        self.sort_running(running);
        Ok(())
    }

    /// Sends operations once. The more they are, the longer it may take.
    pub(crate) async fn send(&self, exchange: Exchange) -> Result<Exchanged, Fault> {
        let ops = exchange.ops.len();
        let bytes = exchange.ops.iter().map(|op| bytes_of(&op.op)).sum();
        let (limit, arrival) = (self.call_limit() + limits::transfer(bytes), Arrival::default());
        let call = self.broker.exchange(exchange, Duration::ZERO, &arrival);
        match self.arriving(limit, &arrival, call).await {
            Ok(answer) if answer.ops.len() == ops => Ok(answer),
            Ok(_) => Err(Fault::Fatal(WorkerError::Protocol("not one answer an operation"))),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Hands in operations, repeating the exchange exactly until there is an answer; but its claim
    /// is dropped when this worker may not claim any more. A later one with the same tokens gets
    /// the same jobs.
    pub(crate) async fn exchange(&self, exchange: &mut Exchange) -> Result<Exchanged, WorkerError> {
        let mut backoff = Backoff::new(&self.config.timings);
        let mut outage = Outage::default();
        loop {
            match self.send(exchange.clone()).await {
                Ok(answer) => {
                    if let Some(late) = outage.works(Instant::now().into_std()) {
                        tracing::info!(worker = %self.config.worker, ?late, "handed in");
                    }
                    return Ok(answer);
                }
                Err(Fault::Fatal(error)) => return Err(error),
                Err(Fault::Unregistered) => self.register_again().await?,
                Err(Fault::Again(why)) => {
                    if outage.failed(&why, Instant::now().into_std()) {
                        let ops = exchange.ops.len();
                        tracing::warn!(worker = %self.config.worker, ops, why, "not handed in yet");
                    }
                    self.look_for_contact();
                }
            }
            tokio::time::sleep(backoff.pause()).await;
            if !self.takes_jobs() {
                exchange.claim = None;
            }
        }
    }

    /// Waits for jobs; none when there was no answer. It is not waited for where nothing else is
    /// answered: a server that hangs would keep the claim to its end, while another one may have jobs.
    /// One whose answer arrives does not hang.
    pub(crate) async fn poll(&self, exchange: &Exchange) -> Result<Option<Exchanged>, WorkerError> {
        let wait = self.config.timings.claim_wait;
        let (arrival, contact_lost) = (Arrival::default(), self.contact_lost.notified());
        let call = self.broker.exchange(exchange.clone(), wait, &arrival);
        let mut call = pin!(self.arriving(wait + self.call_limit(), &arrival, call));
        let answered = tokio::select! {
            answered = &mut call => answered,
            () = contact_lost => match arrival.has_begun() {
                true => call.await,
                false => return Ok(None),
            },
        };
        let error = match answered {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => error,
        };
        match self.fault(error) {
            Fault::Fatal(error) => return Err(error),
            Fault::Unregistered => self.register_again().await?,
            Fault::Again(why) => {
                tracing::debug!(worker = %self.config.worker, why, "no answer to a claim");
                self.look_for_contact();
            }
        }
        Ok(None)
    }
}
