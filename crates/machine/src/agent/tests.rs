//! An agent over hosts that refuse, forget and go away.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use uuid::Uuid;

use super::*;
use parking_lot::Mutex;
use pointsman_core::Rejected;

#[derive(Default)]
struct Heard(Mutex<Vec<MachineStatus>>);

#[async_trait]
impl Host for Heard {
    async fn register_machine(&self, _: RegisterMachine) -> Result<(), BrokerError> {
        Ok(())
    }
    async fn set_machine(&self, set: SetMachine) -> Result<(), BrokerError> {
        let mut heard = self.0.lock();
        if heard.last() != Some(&set.status) {
            heard.push(set.status);
        }
        Ok(())
    }
}

fn starting() -> Fitness {
    Fitness::Starting("comfyui: waiting for ComfyUI at http://c".into())
}

fn config() -> AgentConfig {
    AgentConfig {
        machine: MachineId::new("m").unwrap(),
        incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
        gpus: Vec::new(),
        heartbeat: Duration::from_secs(5),
        backoff: Duration::from_millis(100),
    }
}

/// Refuses what it is told to, and notes what was asked of it.
#[derive(Default)]
struct Refuses {
    next: Mutex<Vec<(&'static str, Rejected)>>,
    asked: Mutex<Vec<&'static str>>,
}

impl Refuses {
    fn answer(&self, asked: &'static str) -> Result<(), BrokerError> {
        self.asked.lock().push(asked);
        let mut next = self.next.lock();
        let at = next.iter().position(|(what, _)| *what == asked);
        at.map_or(Ok(()), |at| Err(BrokerError::Rejected(next.remove(at).1)))
    }
}

#[async_trait]
impl Host for Refuses {
    async fn register_machine(&self, _: RegisterMachine) -> Result<(), BrokerError> {
        self.answer("register")
    }
    async fn set_machine(&self, _: SetMachine) -> Result<(), BrokerError> {
        self.answer("set")
    }
}

/// What an agent asks for, and how it ends, if it does, where `refused` comes so many seconds
/// after it registered.
async fn asked_when(
    after_s: u64,
    refused: Vec<(&'static str, Rejected)>,
) -> (Vec<&'static str>, Option<MachineError>) {
    let host = Arc::new(Refuses::default());
    let (_fit, fitness) = watch::channel(starting());
    let run = Box::pin(std::future::pending());
    let member = Member { worker: WorkerId::new("m-worker-0").unwrap(), run, fitness };
    let agent = Agent::new(config(), host.clone());
    let stop = CancellationToken::new;
    let mut running = tokio::spawn(agent.run(vec![member], stop(), stop()));
    tokio::time::sleep(Duration::from_secs(after_s)).await;
    host.asked.lock().clear();
    *host.next.lock() = refused;
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut running).await;
    running.abort();
    let asked = host.asked.lock().clone();
    (asked, ended.ok().and_then(|ended| ended.unwrap().err()))
}

#[tokio::test(start_paused = true)]
async fn one_that_the_store_forgot_registers_again() {
    let forgotten = || ("set", Rejected::MachineNotFound("m".into()));
    for after in [12, 122] {
        let (asked, ended) = asked_when(after, vec![forgotten()]).await;
        assert_eq!((asked, ended), (vec!["set", "register", "set"], None), "after {after} s");
    }
}

/// A store that came back from before knows the process before this one; a newer one is told
/// apart as this one may not register any more.
#[tokio::test(start_paused = true)]
async fn one_that_was_superseded_ends() {
    let superseded = |what| (what, Rejected::Superseded(config().incarnation));
    let (asked, ended) = asked_when(12, vec![superseded("set")]).await;
    assert_eq!((asked, ended), (vec!["set", "register", "set"], None));
    let both = vec![superseded("set"), superseded("register")];
    let (asked, ended) = asked_when(12, both).await;
    assert_eq!((asked, ended), (vec!["set", "register"], Some(MachineError::Superseded)));
    let (asked, ended) = asked_when(122, vec![superseded("set")]).await;
    assert_eq!((asked, ended), (vec!["set"], Some(MachineError::Superseded)));
}

/// What is damaged may be mended; until then it is told how things are again and again.
#[tokio::test(start_paused = true)]
async fn one_whose_record_is_damaged_goes_on() {
    let damaged = |what| (what, Rejected::Damaged("machine:m: status is x".into()));
    let (asked, ended) = asked_when(12, vec![damaged("set")]).await;
    assert_eq!((&asked[..2], ended), (&["set", "set"][..], None));
    let gone = ("set", Rejected::MachineNotFound("m".into()));
    let (asked, ended) = asked_when(12, vec![gone, damaged("register")]).await;
    assert_eq!((&asked[..4], ended), (&["set", "register", "register", "set"][..], None));
}

/// A host that is not there until it is told.
#[derive(Default)]
struct Away {
    is_back: AtomicBool,
    heard: Heard,
}

#[async_trait]
impl Host for Away {
    async fn register_machine(&self, register: RegisterMachine) -> Result<(), BrokerError> {
        match self.is_back.load(Ordering::SeqCst) {
            true => self.heard.register_machine(register).await,
            false => Err(BrokerError::Unreachable("connection refused".into())),
        }
    }
    async fn set_machine(&self, set: SetMachine) -> Result<(), BrokerError> {
        match self.is_back.load(Ordering::SeqCst) {
            true => self.heard.set_machine(set).await,
            false => Err(BrokerError::Rejected(Rejected::MachineNotFound("m".into()))),
        }
    }
}

/// Its workers run meanwhile, and it hears that it shall stop.
#[tokio::test(start_paused = true)]
async fn one_that_cannot_register_keeps_nothing_from_running_and_stops_when_told() {
    for was_there in [false, true] {
        let host = Arc::new(Away::default());
        host.is_back.store(was_there, Ordering::SeqCst);
        let stopping = CancellationToken::new();
        let (until, works) = (stopping.clone(), Arc::new(AtomicU32::new(0)));
        let work = works.clone();
        let run = Box::pin(async move {
            let every = async {
                loop {
                    work.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            until.run_until_cancelled(every).await;
            Ok(())
        });
        let (_fit, fitness) = watch::channel(Fitness::Fit);
        let member = Member { worker: WorkerId::new("m-worker-0").unwrap(), run, fitness };
        let agent = Agent::new(config(), host.clone());
        let abandon = CancellationToken::new();
        let running = tokio::spawn(agent.run(vec![member], stopping.clone(), abandon));
        tokio::time::sleep(Duration::from_secs(12)).await;
        host.is_back.store(false, Ordering::SeqCst);
        let before = works.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(works.load(Ordering::SeqCst) >= before + 59, "was there: {was_there}");
        stopping.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(1), running).await;
        ended.expect("it hears it").unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_could_not_register_does_once_it_can() {
    let host = Arc::new(Away::default());
    let (_fit, fitness) = watch::channel(starting());
    let run = Box::pin(std::future::pending());
    let member = Member { worker: WorkerId::new("m-worker-0").unwrap(), run, fitness };
    let stop = CancellationToken::new;
    let running =
        tokio::spawn(Agent::new(config(), host.clone()).run(vec![member], stop(), stop()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    host.is_back.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(6)).await;
    running.abort();
    assert_eq!(*host.heard.0.lock(), [MachineStatus::Starting]);
}

/// What was said last, with its reason and the action.
#[derive(Default)]
struct Last(Mutex<Option<SetMachine>>);

#[async_trait]
impl Host for Last {
    async fn register_machine(&self, _: RegisterMachine) -> Result<(), BrokerError> {
        Ok(())
    }
    async fn set_machine(&self, set: SetMachine) -> Result<(), BrokerError> {
        *self.0.lock() = Some(set);
        Ok(())
    }
}

/// Whatever its other workers do meanwhile.
#[tokio::test(start_paused = true)]
async fn what_never_comes_up_is_named_from_the_beginning_and_broken_after_a_while() {
    let host = Arc::new(Last::default());
    let member = |n: u32, fitness| Member {
        worker: WorkerId::new(format!("m-worker-{n}")).unwrap(),
        run: Box::pin(std::future::pending()),
        fitness,
    };
    let (_fit, fit) = watch::channel(Fitness::Fit);
    let (comes_up, late) = watch::channel(starting());
    let members = vec![member(0, fit), member(1, late)];
    let stop = CancellationToken::new;
    let running = tokio::spawn(Agent::new(config(), host.clone()).run(members, stop(), stop()));
    let said = || {
        let SetMachine { status, reason, action, .. } = host.0.lock().clone().unwrap();
        (status, reason.unwrap_or_default(), action.is_some())
    };
    let reason = "m-worker-1: comfyui: waiting for ComfyUI at http://c".to_owned();
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(said(), (MachineStatus::Starting, reason.clone(), false));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(said(), (MachineStatus::Degraded, reason, true));
    comes_up.send_replace(Fitness::Fit);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(said(), (MachineStatus::Ready, String::new(), false));
    running.abort();
}

/// The process that hosts the machine may have other things to do, and a worker that stopped does not
/// come back in it.
#[tokio::test(start_paused = true)]
async fn one_whose_workers_stopped_says_so_until_it_is_told_to_stop() {
    let host = Arc::new(Last::default());
    let (_fit, fit) = watch::channel(Fitness::Fit);
    let worker = |n: u32| WorkerId::new(format!("m-worker-{n}")).unwrap();
    let taken = async { Err(WorkerError::Superseded(Incarnation::from_uuid(Uuid::from_u128(2)))) };
    let (ends, ended) = tokio::sync::oneshot::channel::<()>();
    let dies = async {
        ended.await.unwrap();
        Err(WorkerError::Died("boom".into()))
    };
    let members = vec![
        Member { worker: worker(0), run: Box::pin(taken), fitness: fit.clone() },
        Member { worker: worker(1), run: Box::pin(dies), fitness: fit },
    ];
    let (stopping, abandon) = (CancellationToken::new(), CancellationToken::new());
    let agent = Agent::new(config(), host.clone());
    let running = tokio::spawn(agent.run(members, stopping.clone(), abandon.clone()));
    let said = || {
        let SetMachine { status, reason, action, .. } = host.0.lock().clone().unwrap();
        (status, reason.unwrap_or_default(), action.unwrap_or_default())
    };
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (status, reason, action) = said();
    assert_eq!(status, MachineStatus::Degraded);
    assert!(reason.starts_with("m-worker-0: worker stopped: superseded"), "{reason}");
    assert!(action.contains("give the other process an id of its own"), "{action}");
    ends.send(()).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (status, reason, _) = said();
    assert_eq!(status, MachineStatus::Degraded);
    assert!(reason.contains("m-worker-1: worker stopped: a part of the worker died"), "{reason}");
    stopping.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(1), running).await;
    ended.expect("it hears it").unwrap().unwrap();
    assert_eq!(said().0, MachineStatus::Offline);
}

#[tokio::test(start_paused = true)]
async fn a_machines_life() {
    let heard = Arc::new(Heard::default());
    let config = config();
    let stopping = CancellationToken::new();
    let (fit, fitness) = watch::channel(starting());
    let until = stopping.clone();
    let member = Member {
        worker: WorkerId::new("m-worker-0").unwrap(),
        run: Box::pin(async move {
            until.cancelled().await;
            Ok(())
        }),
        fitness,
    };
    let agent = Agent::new(config, heard.clone());
    let running = tokio::spawn(agent.run(vec![member], stopping.clone(), CancellationToken::new()));
    let beat = || tokio::time::sleep(Duration::from_secs(6));
    beat().await;
    fit.send_replace(Fitness::Fit);
    beat().await;
    fit.send_replace(Fitness::Unfit("comfyui: does not answer".into()));
    beat().await;
    fit.send_replace(Fitness::Fit);
    beat().await;
    stopping.cancel();
    running.await.unwrap().unwrap();
    use MachineStatus as S;
    let expected = [S::Starting, S::Ready, S::Degraded, S::Ready, S::Stopping, S::Offline];
    assert_eq!(*heard.0.lock(), expected);
}
