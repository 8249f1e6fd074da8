//! Any viewer of any server equals the store, on every kind of store: random commands, two servers,
//! and viewers that join, read a little, and move from one server to the other with their position.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use pointsman_broker::{Broker, BrokerTasks, Frame, Viewer};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    ManualClock, MemStore, Position, Store,
    conformance::{
        Open,
        model::{Action, Script, actions},
    },
};
use pointsman_store_redis::{Address, Options, RedisStore};
use pointsman_store_sqlite::SqliteStore;
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use crate::{
    replica::{Replica, Truth},
    support::quiet,
};

/// What a viewer does after an action.
#[derive(Debug, Clone)]
enum Look {
    Join { server: usize, conflate: u64 },
    Read(usize),
    Move(usize),
}

fn look() -> impl Strategy<Value = Look> {
    prop_oneof![
        1 => (0..2usize, prop_oneof![Just(0u64), Just(5)])
            .prop_map(|(server, conflate)| Look::Join { server, conflate }),
        3 => (0..4usize).prop_map(Look::Read),
        1 => (0..4usize).prop_map(Look::Move),
    ]
}

struct Watching {
    server: usize,
    conflate: Duration,
    viewer: Viewer,
    replica: Replica,
}

struct Servers(Vec<(Broker, BrokerTasks)>);

impl Servers {
    /// Starts to watch a server, from a position or from a snapshot.
    fn watch(&self, server: usize, conflate: Duration, replica: Replica) -> Watching {
        let viewer = self.0[server].0.viewer(replica.last_id.clone(), conflate);
        Watching { server, conflate, viewer, replica }
    }
}

/// Reads what is there; at every group's end of which the truth is known, it holds.
async fn read(watching: &mut Watching, truth: &Truth, till: Option<&Position>) {
    // What is asked for comes; what may be there comes at once.
    let patience = if till.is_some() { Duration::from_secs(20) } else { Duration::from_millis(3) };
    while till.is_none_or(|till| watching.replica.last_id.as_ref() != Some(till)) {
        match tokio::time::timeout(patience, watching.viewer.next()).await {
            Ok(frame) => {
                let frame = frame.expect("the broker runs");
                assert!(!matches!(frame, Frame::Resync(_)), "every position is kept: {frame:?}");
                if watching.replica.read(&frame)
                    && let Some(at) = &watching.replica.last_id
                    && truth.knows(at.seq)
                {
                    truth.check(&watching.replica, at.seq);
                }
            }
            Err(_) if till.is_none() => return,
            Err(_) => panic!("{till:?} never came, only {:?}", watching.replica.last_id),
        }
    }
}

/// `handles` gives each server its own way to the store that was opened.
async fn live(
    open: &Open,
    handles: &dyn Fn() -> Vec<Arc<dyn Store>>,
    script: &[(Action, Option<Look>)],
) {
    let mut life = Script::new(open).await;
    let mut servers = Servers(Vec::new());
    for store in handles() {
        servers.0.push(Broker::start(store, quiet()).await.expect("it starts"));
    }
    let mut truth = Truth::default();
    let mut watching: Vec<Watching> = Vec::new();
    for (action, look) in script {
        life.act(action).await;
        truth.note(life.fleet.store.seed().await.expect("the store works"));
        let at = |n: usize| n % watching.len().max(1);
        match look {
            Some(Look::Join { server, conflate }) => {
                let conflate = Duration::from_millis(*conflate);
                watching.push(servers.watch(*server, conflate, Replica::default()));
            }
            Some(Look::Read(n)) if !watching.is_empty() => {
                let n = at(*n);
                read(&mut watching[n], &truth, None).await;
            }
            Some(Look::Move(n)) if !watching.is_empty() => {
                let Watching { server, conflate, replica, .. } = watching.swap_remove(at(*n));
                watching.push(servers.watch(1 - server, conflate, replica));
            }
            _ => {}
        }
    }
    // One more change that every view shows, so that every viewer has an end to read to.
    life.fleet.worker("last", 1, &[]).await;
    let seed = life.fleet.store.seed().await.expect("the store works");
    let end = seed.position.clone();
    truth.note(seed);
    for watching in &mut watching {
        read(watching, &truth, Some(&end)).await;
    }
    for (_, tasks) in servers.0 {
        tasks.stop().await;
    }
}

fn watched(open: &Open, handles: &dyn Fn() -> Vec<Arc<dyn Store>>) {
    let runtime = Runtime::new().expect("a runtime");
    let config = ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() };
    let scripts = (actions(60), prop::collection::vec(prop::option::of(look()), 60));
    let outcome = TestRunner::new(config).run(&scripts, |(actions, looks)| {
        let script: Vec<_> = actions.into_iter().zip(looks).collect();
        runtime.block_on(live(open, handles, &script));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

type Opened = (Arc<dyn Store>, Box<dyn std::any::Any>);

/// Both servers over the very same store.
fn watched_in_one_process(open: fn(ManualClock) -> Opened) {
    let opened: Arc<Mutex<Option<Arc<dyn Store>>>> = Arc::default();
    let kept = opened.clone();
    let open: Box<Open> = Box::new(move |clock| {
        let (store, rest) = open(clock);
        *kept.lock() = Some(store.clone());
        (store, rest)
    });
    let handles = || {
        let store = opened.lock().clone().expect("it was opened");
        vec![store.clone(), store]
    };
    watched(&*open, &handles);
}

#[test]
fn viewers_equal_the_store_in_memory() {
    watched_in_one_process(|clock| (Arc::new(MemStore::new(Arc::new(clock))), Box::new(())));
}

#[test]
fn viewers_equal_the_store_on_sqlite() {
    watched_in_one_process(|clock| {
        let dir = tempfile::tempdir().expect("a directory");
        let options = pointsman_store_sqlite::Options {
            clock: Some(Arc::new(clock)),
            contact_gap: None,
            reserve_bytes: 0,
            ..Default::default()
        };
        let store = SqliteStore::open(dir.path(), options).expect("it opens");
        (Arc::new(store), Box::new(dir))
    });
}

/// The tasks behind stores on Redis; each server has a connection of its own.
static BACKGROUND: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

fn connect(options: Options) -> Arc<dyn Store> {
    let open = || BACKGROUND.block_on(RedisStore::open(options)).expect("it opens");
    Arc::new(std::thread::scope(|scope| scope.spawn(open).join().expect("no panic")))
}

#[test]
fn viewers_equal_the_store_on_redis() {
    let server = RedisServer::start_blocking(RedisOptions::default()).expect("a redis-server");
    let address: Address = server.url().parse().expect("an address");
    let (fleets, opened) = (AtomicUsize::new(0), Arc::new(Mutex::new(None)));
    let kept = opened.clone();
    let open: Box<Open> = Box::new(move |clock| {
        let n = fleets.fetch_add(1, Ordering::Relaxed);
        let options = Options {
            fleet: format!("fleet-{n}"),
            clock: Some(Arc::new(clock)),
            contact_gap: None,
            ..Options::new(address.clone())
        };
        *kept.lock() = Some(options.clone());
        (connect(options), Box::new(()))
    });
    let handles = || {
        let options: Options = opened.lock().clone().expect("it was opened");
        (0..2).map(|_| connect(options.clone())).collect()
    };
    watched(&*open, &handles);
}
