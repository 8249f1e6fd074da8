//! What the store is told of a machine, and for how long that is tried.

use pointsman_core::{
    Outage, Rejected,
    command::{RegisterMachine, SetMachine},
};
use pointsman_worker::{BrokerError, JUST_REGISTERED};
use tokio::{sync::watch, time::Instant};

use super::{Agent, MachineError};

/// When this process was answered.
#[derive(Default)]
struct Contact {
    registered: Option<Instant>,
    last: Option<Instant>,
}

impl Agent {
    /// Registers, says each new state, and says it again as the machine's heartbeat. A broker that
    /// is away is waited for. Ends only with the reason why the machine must.
    pub(super) async fn keep_told(&self, mut state: watch::Receiver<SetMachine>) -> MachineError {
        let (mut contact, mut outage) = (Contact::default(), Outage::default());
        let mut pause = self.config.backoff;
        loop {
            let now = state.borrow_and_update().clone();
            let said = self.say(now, &mut contact).await;
            let at = Instant::now().into_std();
            let wait = match said.map_err(borne) {
                Ok(()) => {
                    if let Some(late) = outage.works(at) {
                        tracing::info!(machine = %self.config.machine, ?late, "told how it is");
                    }
                    pause = self.config.backoff;
                    self.config.heartbeat
                }
                Err(Ok(why)) => {
                    if outage.failed(&why, at) {
                        tracing::warn!(
                            machine = %self.config.machine, why,
                            "the broker does not hear how the machine is; trying again",
                        );
                    }
                    let wait = pause;
                    pause = (pause * 2).min(self.config.heartbeat);
                    wait
                }
                Err(Err(end)) => return end,
            };
            tokio::select! {
                Ok(()) = state.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn say(&self, set: SetMachine, contact: &mut Contact) -> Result<(), BrokerError> {
        if contact.registered.is_none() {
            self.register(contact).await?;
        }
        let mut said = self.host.set_machine(set.clone()).await;
        if let Err(BrokerError::Rejected(why)) = &said
            && contact.may_be_forgotten(why)
        {
            tracing::warn!(machine = %self.config.machine, %why, "registering again");
            self.register(contact).await?;
            said = self.host.set_machine(set).await;
        }
        said?;
        contact.last = Some(Instant::now());
        Ok(())
    }

    async fn register(&self, contact: &mut Contact) -> Result<(), BrokerError> {
        *contact = Contact::default();
        let register = RegisterMachine {
            machine: self.config.machine.clone(),
            incarnation: self.config.incarnation,
            gpus: self.config.gpus.clone(),
        };
        self.host.register_machine(register).await?;
        let now = Some(Instant::now());
        *contact = Contact { registered: now, last: now };
        Ok(())
    }
}

impl Contact {
    /// Whether the store may have come back as it was before this machine registered, or have removed
    /// it after a long silence. One that a newer process took over is refused when it registers.
    fn may_be_forgotten(&self, why: &Rejected) -> bool {
        match why {
            Rejected::MachineNotFound(_) => true,
            Rejected::Superseded(_) => {
                let known = self.registered.zip(self.last);
                known.is_some_and(|(at, last)| last.duration_since(at) < JUST_REGISTERED)
            }
            _ => false,
        }
    }
}

/// Why to try again: the broker is away, or what it refuses may pass. Being superseded, or refused for
/// good, is the end.
fn borne(error: BrokerError) -> Result<String, MachineError> {
    match error {
        // Its server answers what is wrong for as long as it runs.
        BrokerError::Unreachable(why) | BrokerError::Newer(why) => Ok(why),
        BrokerError::Rejected(why) if why.may_pass() => Ok(why.to_string()),
        BrokerError::Rejected(Rejected::Superseded(_)) => Err(MachineError::Superseded),
        BrokerError::Rejected(why) => Err(MachineError::Refused(why.to_string())),
        BrokerError::Refused(why) => Err(MachineError::Refused(why)),
    }
}
