//! What goes over from one process to the next, of workers and of machines' agents, and what their
//! records say of them meanwhile.

use std::time::Duration;

use pointsman_core::{
    Command, Event, EventName, FailureKind, MachineId, Record, Rejected,
    command::{Op, RegisterMachine, Renew, SetMachine},
    decide::limits,
    record::{ConnectorStatus, MachineStatus, OfflineReason, Orders, Presence, WorkerStatus},
};

use super::{
    Open,
    fleet::{Fleet, Hand, completed, failed, spec},
};
use crate::Due;

const SECOND: Duration = Duration::from_secs(1);

async fn leave(fleet: &Fleet, hand: &Hand) {
    let Hand { worker, incarnation, .. } = hand.clone();
    fleet.run(Command::Leave { worker, incarnation }).await.expect("accepted");
}

async fn register_agent(fleet: &Fleet, agent: &Hand) -> Result<(), Rejected> {
    let Hand { machine, incarnation, .. } = agent.clone();
    let register = RegisterMachine { machine, incarnation, gpus: Vec::new() };
    fleet.run(Command::RegisterMachine(register)).await.map(drop)
}

async fn set_machine(fleet: &Fleet, agent: &Hand, status: MachineStatus) {
    let Hand { machine, incarnation, .. } = agent.clone();
    let set = SetMachine { machine, incarnation, status, reason: None, action: None };
    fleet.run(Command::SetMachine(set)).await.expect("accepted");
}

async fn report_error(fleet: &Fleet, hand: &Hand, message: &str) {
    let mut renewal = Fleet::renewal(hand, Vec::new(), ConnectorStatus::Error);
    renewal.connectors[0].error_message = Some(message.into());
    fleet.run(Command::Renew(renewal)).await.expect("accepted");
}

/// A restart clears no suspicion and forgets no count.
pub async fn a_new_process_takes_over_what_is_known_of_its_worker(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let known = async || {
        let worker = fleet.worker_record(&hand).await;
        (
            [worker.jobs_completed, worker.jobs_failed],
            worker.suspect_jobs.clone(),
            [worker.suspicion_at, worker.suspect_until],
        )
    };
    let ends = [completed(), failed(FailureKind::BadJob)];
    let breaks = std::iter::repeat_n(failed(FailureKind::ServiceFault), limits::SUSPECT_AFTER);
    for end in ends.into_iter().chain(breaks) {
        let held = fleet.running(&hand).await;
        fleet.act(&hand, held, end).await.expect("accepted");
        fleet.advance(Duration::from_millis(1));
    }
    let before = known().await;
    assert_eq!((before.0, before.1.len()), ([1, 1], limits::SUSPECT_AFTER));
    assert!(before.2.iter().all(Option::is_some), "{before:?}");
    fleet.worker("w", 1, &[]).await;
    assert_eq!(known().await, before);
}

/// Takes no more, as a drained one; and no process is what another one said of itself.
pub async fn a_worker_that_was_told_to_stop_is_stopping_until_it_has_left(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 2, &[]).await;
    let held = fleet.running(&hand).await;
    let waiting = fleet.submit(spec(50)).await;
    let says = async |stopping| {
        let renewal = Fleet::renewal(&hand, vec![held], ConnectorStatus::Idle);
        let renewal = Renew { stopping, ..renewal };
        fleet.run(Command::Renew(renewal)).await.expect("accepted").1.is_some()
    };
    let is = async |hand: &Hand| {
        let worker = fleet.worker_record(hand).await;
        (worker.status, worker.shown_status())
    };
    assert_eq!(is(&hand).await, (WorkerStatus::Busy, "busy"));
    assert!(!says(false).await, "nothing has changed");
    assert!(says(true).await);
    assert_eq!(is(&hand).await, (WorkerStatus::Draining, "stopping"));
    assert!(!says(true).await, "it is known");
    assert_eq!(fleet.claim(&hand).await, None);
    let again = Fleet::registration(&hand, 2, &["more"]);
    fleet.run(Command::Register(again)).await.expect("accepted");
    assert_eq!(is(&hand).await.1, "stopping", "it is the same process");
    fleet.act(&hand, held, completed()).await.expect("accepted");
    assert_eq!(is(&hand).await.1, "stopping", "not idle");
    leave(&fleet, &hand).await;
    let gone = fleet.worker_record(&hand).await;
    assert_eq!((gone.stopping, gone.shown_status()), (None, "offline"));

    let newer = fleet.worker("w", 2, &[]).await;
    assert_eq!(is(&newer).await, (WorkerStatus::Idle, "idle"));
    // An older version keeps what it does not know, whatever process it is about.
    let mut kept = (*fleet.worker_record(&newer).await).clone();
    kept.stopping = Some(hand.incarnation);
    let kept = Record::Worker(kept.into());
    fleet.corrupt(vec![Event::put(EventName::WorkerConnected, kept)]).await;
    assert_eq!(is(&newer).await.1, "idle");
    fleet.check().await.expect("sound");
    assert_eq!(fleet.claim(&newer).await.map(|held| held.job), Some(waiting));
    fleet.report(&newer, ConnectorStatus::Active).await;
    assert_eq!(fleet.worker_record(&newer).await.stopping, None);
}

pub async fn a_worker_that_moves_keeps_its_orders(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let order = Command::SetOrders { worker: hand.worker.clone(), orders: Orders { drain: true } };
    fleet.run(order).await.expect("accepted");
    let machine = MachineId::new("elsewhere").expect("a valid name");
    let moved = Hand { machine, ..fleet.hand("w") };
    fleet.run(Command::Register(Fleet::registration(&moved, 1, &[]))).await.expect("accepted");
    assert!(fleet.worker_record(&moved).await.orders.drain);
}

/// Restarts in good order are no fight over an id.
pub async fn a_process_that_left_is_not_superseded(open: &Open) {
    let fleet = Fleet::new(open);
    let mut hand = fleet.worker("w", 1, &[]).await;
    for _ in 0..3 {
        leave(&fleet, &hand).await;
        hand = fleet.worker("w", 1, &[]).await;
    }
    let worker = fleet.worker_record(&hand).await;
    assert_eq!(worker.superseded_at, []);
    assert!(!worker.is_flapping(fleet.store.now()));
}

pub async fn of_former_processes_the_newest_are_kept(open: &Open) {
    const FORMER: usize = 16;
    const SUPERSEDED: usize = 3;
    let fleet = Fleet::new(open);
    let (mut came, mut times) = (Vec::new(), Vec::new());
    for _ in 0..FORMER + 2 {
        fleet.advance(Duration::from_millis(1));
        times.push(fleet.store.now());
        came.push(fleet.worker("w", 1, &[]).await);
    }
    let newest = came.pop().expect("the newest");
    let worker = fleet.worker_record(&newest).await;
    let former: Vec<_> = came.iter().map(|hand| hand.incarnation).collect();
    assert_eq!(worker.former_incarnations, former[former.len() - FORMER..]);
    assert_eq!(worker.superseded_at, times[times.len() - SUPERSEDED..]);
}

pub async fn an_agent_comes_anew_and_comes_back(open: &Open) {
    let fleet = Fleet::new(open);
    let [first, second] = [fleet.hand("box"), fleet.hand("box")];
    register_agent(&fleet, &first).await.expect("accepted");
    register_agent(&fleet, &second).await.expect("a new process");
    let refused = register_agent(&fleet, &first).await;
    assert_eq!(refused, Err(Rejected::Superseded(first.incarnation)));
    set_machine(&fleet, &second, MachineStatus::Ready).await;
    register_agent(&fleet, &second).await.expect("the same again");
    assert_eq!(fleet.machine_record(&second).await.status, MachineStatus::Ready);

    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Machines).await, 1);
    assert_eq!(fleet.machine_record(&second).await.status, MachineStatus::Disconnected);
    register_agent(&fleet, &second).await.expect("it is back");
    let machine = fleet.machine_record(&second).await;
    assert_eq!((machine.status, machine.reason.clone()), (MachineStatus::Starting, None));
    assert_eq!(machine.former_incarnations, [first.incarnation]);
}

/// Its workers come and go; only the machine of bare workers follows them.
pub async fn a_machine_with_an_agent_is_as_its_agent_says(open: &Open) {
    let fleet = Fleet::new(open);
    let agent = fleet.hand("w");
    register_agent(&fleet, &agent).await.expect("accepted");
    set_machine(&fleet, &agent, MachineStatus::Ready).await;
    let hand = fleet.worker("w", 1, &[]).await;
    leave(&fleet, &hand).await;
    assert_eq!(fleet.machine_record(&agent).await.status, MachineStatus::Ready);
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Machines).await, 1);
    fleet.worker("w", 1, &[]).await;
    assert_eq!(fleet.machine_record(&agent).await.status, MachineStatus::Disconnected);
}

pub async fn after_an_agents_goodbye_the_machine_is_its_workers(open: &Open) {
    let fleet = Fleet::new(open);
    let agent = fleet.hand("w");
    register_agent(&fleet, &agent).await.expect("accepted");
    set_machine(&fleet, &agent, MachineStatus::Offline).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let machine = fleet.machine_record(&agent).await;
    assert_eq!((machine.status, machine.incarnation), (MachineStatus::Ready, None));
    let refused = register_agent(&fleet, &agent).await;
    assert_eq!(refused, Err(Rejected::Superseded(agent.incarnation)), "it had left");
    leave(&fleet, &hand).await;
    assert_eq!(fleet.machine_record(&agent).await.status, MachineStatus::Offline);
    register_agent(&fleet, &fleet.hand("w")).await.expect("the next process");
    assert_eq!(fleet.machine_record(&agent).await.status, MachineStatus::Starting);
}

pub async fn a_worker_is_ready_once_a_service_is(open: &Open) {
    use ConnectorStatus as S;
    let fleet = Fleet::new(open);
    let hand = fleet.hand("w");
    fleet.run(Command::Register(Fleet::registration(&hand, 1, &[]))).await.expect("accepted");
    for status in [S::Starting, S::Connecting, S::Error] {
        fleet.report(&hand, status).await;
        assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Starting, "{status:?}");
    }
    fleet.report(&hand, S::Idle).await;
    assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Idle);
    fleet.report(&hand, S::Error).await;
    assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Idle, "its process is there");
}

/// The newest word about a service stands, until its worker is away: then that is what is known.
pub async fn what_a_connector_says_is_told_anew(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let shown = async || {
        let connector = fleet.connector_record(&hand).await;
        (connector.status, connector.error_message.clone().unwrap_or_default())
    };
    for message in ["no GPU", "no disk"] {
        report_error(&fleet, &hand, message).await;
        assert_eq!(shown().await, (ConnectorStatus::Error, message.into()));
    }
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Workers).await, 1);
    assert_eq!(shown().await, (ConnectorStatus::Unknown, "the worker is silent".into()));
    report_error(&fleet, &hand, "no disk").await;
    leave(&fleet, &hand).await;
    assert_eq!(shown().await, (ConnectorStatus::Offline, String::new()));
}

/// Its server asks for it for as long as its call waits.
pub async fn a_worker_that_is_away_gets_no_job(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.submit(spec(50)).await;
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Workers).await, 1);
    assert_eq!(fleet.claim(&hand).await, None);
    let presence = fleet.worker_record(&hand).await.presence;
    assert_eq!(presence, Presence::Offline { why: OfflineReason::Silent });
    fleet.report(&hand, ConnectorStatus::Idle).await;
    assert!(fleet.claim(&hand).await.is_some(), "it is heard again");
}

/// It is that of the last change of the status, and of nothing else.
pub async fn each_status_has_its_time(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 2, &[]).await;
    let times = async || {
        let machine = fleet.machine_record(&hand).await.last_status_change;
        [
            fleet.worker_record(&hand).await.last_status_change,
            fleet.connector_record(&hand).await.timestamp,
            machine.expect("a machine tells since when it is as it is"),
        ]
    };
    let came = fleet.store.now();
    assert_eq!(times().await, [came; 3]);
    fleet.advance(SECOND);
    let busy = fleet.store.now();
    fleet.running(&hand).await;
    assert_eq!(times().await, [busy, busy, came]);
    fleet.advance(SECOND);
    fleet.running(&hand).await;
    assert_eq!(times().await, [busy, busy, came], "busy still");
    fleet.advance(SECOND);
    let draining = fleet.store.now();
    let orders = Orders { drain: true };
    let drain = Command::SetMachineOrders { machine: hand.machine.clone(), orders };
    fleet.run(drain).await.expect("accepted");
    assert_eq!(times().await, [draining, busy, came], "its machine is as it was");
}

/// A server repeats it while it waits: only operations are signs of life, also beside a claim.
pub async fn a_claim_alone_is_no_sign_of_life(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 2, &[]).await;
    let heard = async || {
        let pulse = fleet.store.pulse().await.expect("the store works");
        (pulse.workers[0].heartbeat_at, pulse.connectors[0].confirmed_at)
    };
    let came = Some(fleet.store.now());
    fleet.submit(spec(50)).await;
    fleet.submit(spec(50)).await;
    fleet.advance(SECOND);
    let held = fleet.claim(&hand).await.expect("a job to claim");
    assert_eq!(heard().await, (came, came));
    let started = Some(fleet.store.now());
    let ops = vec![Fleet::op(held, Op::Start)];
    let exchange = Fleet::exchange(&hand, ops, vec![fleet.token()]);
    fleet.run(Command::Exchange(exchange)).await.expect("accepted");
    assert_eq!(heard().await, (started, started));
    fleet.advance(SECOND);
    let ended = Some(fleet.store.now());
    fleet.act(&hand, held, completed()).await.expect("accepted");
    assert_eq!(heard().await, (ended, ended));
}

/// Of its agent and of its workers whichever was heard last.
pub async fn a_machine_is_heard_as_the_last_of_it(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let register = RegisterMachine {
        machine: hand.machine.clone(),
        incarnation: hand.incarnation,
        gpus: Vec::new(),
    };
    let heard = async || {
        let pulse = fleet.store.pulse().await.expect("the store works");
        pulse.machines[0].heartbeat_at
    };
    fleet.advance(SECOND);
    fleet.run(Command::RegisterMachine(register)).await.expect("accepted");
    assert_eq!(heard().await, Some(fleet.store.now()));
    fleet.advance(SECOND);
    fleet.report(&hand, ConnectorStatus::Idle).await;
    assert_eq!(heard().await, Some(fleet.store.now()));
}
