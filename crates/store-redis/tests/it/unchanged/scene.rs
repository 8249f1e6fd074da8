//! A fleet in the middle of its life, and one of each kind of call.

use pointsman_core::{
    Command, ConnectorId, FailureKind, JobId, LossReason,
    command::{
        Claim, Exchange, Held, Idempotency, Op, Raise, Reconcile, RegisterMachine, SetMachine,
        Submit,
    },
    decide::limits,
    record::{AlertId, AlertRule, ConnectorStatus, JobSpec, MachineStatus, Orders, Severity},
};
use pointsman_store::conformance::fleet::{
    Fleet, Hand, cancelled, completed, failed, late, needs, service, spec,
};

use crate::support::{by_hand, call_by_hand};

/// A worker with a running and an assigned job, and one without; jobs that wait, are held back, exclude a worker, are
/// lost, and have ended; a worker that has left, and an alert. It is a minute later.
pub struct Scene {
    pub hand: Hand,
    idle: Hand,
    pub running: Held,
    assigned: Held,
    cancelling: Held,
    lost: Held,
    ended: JobId,
    held: JobId,
    excluding: JobId,
    pub waiting: JobId,
    repeated: Submit,
    left: Hand,
    alert: AlertId,
    agent: RegisterMachine,
}

fn submission(fleet: &Fleet, key: &str) -> Submit {
    let idempotency = Some(Idempotency { key: key.to_owned(), body: [7; 32] });
    let workflow_id = Some("flow".parse().expect("a valid id"));
    Submit { idempotency, ..fleet.submission(JobSpec { workflow_id, ..spec(60) }) }
}

fn release() -> Op {
    Op::Release { reason: LossReason::ServiceLost, message: String::new() }
}

pub async fn scene(fleet: &Fleet, prefix: &str) -> Scene {
    let hand = fleet.worker("w", 9, &["x"]).await;
    let ended = fleet.running(&hand).await;
    fleet.act(&hand, ended, completed()).await.expect("it ends");
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("it fails");
    let running = fleet.running(&hand).await;
    let cancelling = fleet.running(&hand).await;
    fleet.run(Command::Cancel { job: cancelling.job }).await.expect("it is asked to stop");
    let excluding = fleet.running(&hand).await;
    fleet.act(&hand, excluding, failed(FailureKind::WrongWorker)).await.expect("it fails");
    // Of a class that rests from then on.
    let requirements = needs("x");
    fleet.submit(JobSpec { requirements, ..spec(90) }).await;
    let alone = fleet.claim(&hand).await.expect("a job");
    fleet.act(&hand, alone, completed()).await.expect("it ends");
    let repeated = submission(fleet, "key");
    fleet.run(Command::Submit(repeated.clone())).await.expect("a valid submission");
    let lost = fleet.claim(&hand).await.expect("a job");
    fleet.act(&hand, lost, Op::Start).await.expect("a valid start");
    fleet.act(&hand, lost, release()).await.expect("it is given back");
    let assigned = fleet.claim(&hand).await.expect("a job");
    let waiting = fleet.submit(spec(50)).await;
    let idle = fleet.worker("idle", 9, &["x"]).await;
    let left = fleet.worker("left", 1, &[]).await;
    let leave = Command::Leave { worker: left.worker.clone(), incarnation: left.incarnation };
    fleet.run(leave).await.expect("it leaves");
    let alert = AlertId { rule: AlertRule::StoreFull, subject: "files".into() };
    fleet.run(raise(alert.clone())).await.expect("it is raised");
    let Hand { machine, incarnation, .. } = fleet.hand("agent");
    let agent = RegisterMachine { machine, incarnation, gpus: Vec::new() };
    fleet.run(Command::RegisterMachine(agent.clone())).await.expect("a valid registration");
    let digest = fleet.worker_record(&hand).await.capabilities_digest.to_string();
    // Redis' own time is far ahead of the test's.
    let waits = ["", "process", service().as_str(), &digest, "3600000"].map(str::to_owned);
    call_by_hand(prefix, "wait", &waits.iter().map(String::as_str).collect::<Vec<_>>());
    fleet.submit(spec(40)).await;
    // On a slow machine the test goes on after Redis has let it expire.
    by_hand(prefix, &format!("PERSIST wake:{digest}:{}", service()));
    fleet.advance(limits::STALE_AFTER + limits::BACKOFF_MAX);
    let (ended, held, excluding) = (ended.job, held.job, excluding.job);
    Scene {
        hand,
        idle,
        running,
        assigned,
        cancelling,
        lost,
        ended,
        held,
        excluding,
        waiting,
        repeated,
        left,
        alert,
        agent,
    }
}

fn raise(alert: AlertId) -> Command {
    let (message, action) = ("full".to_owned(), "make room".to_owned());
    Command::Raise(Raise { alert, severity: Severity::Warning, message, action })
}

/// One of each kind of call.
pub fn calls(fleet: &Fleet, scene: &Scene) -> Vec<Command> {
    let hand = &scene.hand;
    let (worker, incarnation, machine) =
        (hand.worker.clone(), hand.incarnation, hand.machine.clone());
    let claim = Some(Claim { tokens: vec![fleet.token()], services: Vec::new() });
    let finish_and_claim = Exchange {
        worker: worker.clone(),
        incarnation,
        ops: vec![Fleet::op(scene.running, completed())],
        claim,
    };
    let act = |held: Held, op: Op| {
        Command::Exchange(Fleet::exchange(hand, vec![Fleet::op(held, op)], Vec::new()))
    };
    let tokens = |n| (0..n).map(|_| fleet.token()).collect();
    let held = vec![scene.running, scene.assigned, scene.cancelling];
    let other = AlertId { rule: AlertRule::StoreAtRisk, subject: "redis".into() };
    let orders = Orders { drain: true };
    let set = SetMachine {
        machine: scene.agent.machine.clone(),
        incarnation: scene.agent.incarnation,
        status: MachineStatus::Degraded,
        reason: None,
        action: None,
    };
    let register_machine =
        RegisterMachine { machine: fleet.hand("new").machine, incarnation, gpus: Vec::new() };
    let after = limits::SILENT_AFTER;
    let reconciled = [
        Reconcile::ReleaseHold { job: scene.held },
        Reconcile::LapseExclusions { job: scene.excluding, nobody_else: true },
        Reconcile::DeclareSilent { worker: worker.clone(), after },
        Reconcile::MarkStale {
            connector: ConnectorId::new(worker.clone(), service()),
            after: limits::STALE_AFTER,
        },
        Reconcile::DisconnectMachine { machine: machine.clone(), after },
        Reconcile::RemoveJob { job: scene.ended },
        Reconcile::RemoveWorker { worker: scene.left.worker.clone() },
        Reconcile::RemoveMachine { machine: scene.left.machine.clone() },
    ];
    let calls = vec![
        Command::Submit(fleet.submission(spec(70))),
        Command::Submit(submission(fleet, "another")),
        Command::Submit(scene.repeated.clone()),
        // Of a class that there is not yet, and what another worker may take of all that waits.
        Command::Submit(fleet.submission(JobSpec { requirements: needs("new"), ..spec(50) })),
        Command::Exchange(Fleet::exchange(&scene.idle, Vec::new(), tokens(4))),
        Command::Exchange(finish_and_claim),
        Command::Exchange(Fleet::exchange(hand, Vec::new(), vec![fleet.token(), fleet.token()])),
        act(scene.assigned, Op::Start),
        act(scene.running, release()),
        act(scene.cancelling, cancelled()),
        act(scene.lost, late()),
        Command::Renew(Fleet::renewal(hand, held, ConnectorStatus::Idle)),
        Command::Register(Fleet::registration(&fleet.hand("other"), 1, &[])),
        Command::Register(Fleet::registration(&fleet.hand("w"), 9, &["y"])),
        Command::Cancel { job: scene.waiting },
        Command::Retry { job: scene.ended, run: None },
        Command::SetOrders { worker: worker.clone(), orders },
        Command::SetMachineOrders { machine, orders },
        Command::RegisterMachine(register_machine),
        Command::SetMachine(set),
        raise(other),
        Command::Clear { alert: scene.alert.clone() },
        Command::Leave { worker, incarnation },
        Fleet::expire(scene.running),
    ];
    calls.into_iter().chain(reconciled.map(Command::Reconcile)).collect()
}
