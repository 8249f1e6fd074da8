//! A redis-server for all tests of this binary; each test has a fleet of its own on it.

use std::{
    any::Any,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pointsman_core::Record;
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    ManualClock, Store,
    conformance::{fleet::Fleet, model::picture},
};
use pointsman_store_redis::{OpenError, Options, RedisStore};
use tokio::{net::TcpSocket, runtime::Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static SERVER: LazyLock<RedisServer> = LazyLock::new(|| {
    RedisServer::start_blocking(RedisOptions::default()).expect("a redis-server on this machine")
});
static FLEETS: AtomicU64 = AtomicU64::new(0);

/// Options of a fleet that nobody else has, on a clock that the test moves.
pub fn options(clock: &ManualClock) -> Options {
    let n = FLEETS.fetch_add(1, Ordering::Relaxed);
    Options {
        fleet: format!("test-{}-{n}", std::process::id()),
        clock: Some(Arc::new(clock.clone())),
        contact_gap: None,
        look_every: Duration::from_secs(3_600),
        all_machines_every: Duration::ZERO,
        ..Options::new(SERVER.url().parse().expect("a valid address"))
    }
}

/// Opens a store; the tasks behind it live in a runtime of their own.
pub fn open_with(options: Options) -> RedisStore {
    try_open(options).expect("the store opens")
}

pub fn try_open(options: Options) -> Result<RedisStore, OpenError> {
    let open = || RUNTIME.block_on(RedisStore::open(options));
    std::thread::scope(|scope| scope.spawn(open).join().expect("no panic"))
}

/// For threads of a test's own, which cannot await.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

pub fn redis_url() -> String {
    SERVER.url()
}

/// As the suite opens an empty store.
pub fn open(clock: ManualClock) -> (Arc<dyn Store>, Box<dyn Any>) {
    (Arc::new(open_with(options(&clock))), Box::new(()))
}

/// An address at which nobody listens, nor anybody else can as long as the socket is kept.
pub fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = socket.local_addr().expect("its address").to_string();
    (socket, address)
}

/// The keys of a fleet begin with this.
pub fn prefix(options: &Options) -> String {
    format!("{{pointsman:{}}}:", options.fleet)
}

/// Another program's way to the same Redis.
pub fn connection() -> redis::Connection {
    let client = redis::Client::open(SERVER.url()).expect("a valid address");
    client.get_connection().expect("the server is there")
}

/// A fleet of the suite, with the options that open its store once more.
pub fn fleet_on() -> (Fleet, Options) {
    let opened = Arc::new(std::sync::Mutex::new(None));
    let kept = opened.clone();
    let fleet = Fleet::new(&move |clock: ManualClock| -> (Arc<dyn Store>, Box<dyn Any>) {
        let options = options(&clock);
        *kept.lock().expect("no panic") = Some(options.clone());
        (Arc::new(open_with(options)), Box::new(()))
    });
    let options = opened.lock().expect("no panic").take().expect("it was opened");
    (fleet, options)
}

/// A fleet on a redis-server of its own, with the options that open its store once more.
pub fn own_fleet(server: &RedisServer) -> (Fleet, Options) {
    let clock = ManualClock::default();
    let options =
        Options { address: server.url().parse().expect("a valid address"), ..options(&clock) };
    let opened = options.clone();
    let fleet = Fleet::new(&move |clock: ManualClock| -> (Arc<dyn Store>, Box<dyn Any>) {
        let options = Options { clock: Some(Arc::new(clock)), ..opened.clone() };
        (Arc::new(open_with(options)), Box::new(()))
    });
    let options = Options { clock: Some(Arc::new(fleet.clock.clone())), ..options };
    (fleet, options)
}

/// A fleet on a redis-server of its own, whose commands can be counted; what was seen counts for ever.
pub fn fleet_at(server: &RedisServer) -> Fleet {
    const FOR_EVER: Duration = Duration::from_secs(3_600);
    let address: pointsman_store_redis::Address = server.url().parse().expect("a valid address");
    Fleet::new(&move |clock| {
        let options = Options {
            clock: Some(Arc::new(clock)),
            contact_gap: None,
            look_every: FOR_EVER,
            look_holds: FOR_EVER,
            all_machines_every: FOR_EVER,
            ..Options::new(address.clone())
        };
        (Arc::new(open_with(options)), Box::new(()))
    })
}

/// All that a store shows, but for when each record changed last: a repair is a change.
pub async fn content(store: &dyn Store) -> Vec<String> {
    let shown = picture(store).await.into_iter().filter(|line| !line.starts_with("seq "));
    let but_for_rev = |line: String| match line.split_once("\"rev\":") {
        Some((before, after)) => {
            before.to_owned() + after.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        None => line,
    };
    let mut content: Vec<_> = shown.map(but_for_rev).collect();
    content.sort();
    content
}

/// Somebody sends a command on one key of a fleet, its words apart by blanks.
pub fn by_hand(prefix: &str, command: &str) -> redis::Value {
    let mut parts = command.split(' ');
    let mut redis_command = redis::cmd(parts.next().expect("a command"));
    redis_command.arg(format!("{prefix}{}", parts.next().expect("a key")));
    for part in parts {
        redis_command.arg(part);
    }
    redis_command.query(&mut connection()).expect("Redis does as it is told")
}

/// How Redis has a function by name.
pub fn function(function: &str) -> String {
    let listed = redis::cmd("FUNCTION").arg("LIST").query::<redis::Value>(&mut connection());
    let listed = format!("{:?}", listed.expect("functions"));
    let name = format!("pointsman_{function}_");
    let at = listed.find(&name).expect("a function of that name");
    listed[at..].chars().take(name.len() + 8).collect()
}

/// Somebody calls one of a fleet's functions.
pub fn call_by_hand(prefix: &str, name: &str, args: &[&str]) -> redis::Value {
    redis::cmd("FCALL")
        .arg(function(name))
        .arg(1)
        .arg(format!("{prefix}meta"))
        .arg(args)
        .query(&mut connection())
        .expect("it answers")
}

/// Somebody sends a command, its words apart by blanks.
pub async fn run(server: &RedisServer, command: &str) -> redis::Value {
    let mut words = command.split(' ');
    let mut redis_command = redis::cmd(words.next().expect("a command"));
    redis_command.arg(words.collect::<Vec<_>>());
    let mut connection = server.connect().await.expect("it answers");
    redis_command.query_async(&mut connection).await.expect("it does as it is told")
}

/// How often a command was called, or refused, as Redis counts it; 0 where it does not.
pub async fn count(server: &RedisServer, command: &str, of: &str) -> u32 {
    let stats = format!("{:?}", run(server, "INFO commandstats").await);
    let stats = stats.split(&format!("cmdstat_{command}:")).nth(1).unwrap_or_default();
    let count = stats.split(&format!("{of}=")).nth(1).unwrap_or_default();
    let count: String = count.chars().take_while(char::is_ascii_digit).collect();
    count.parse().unwrap_or(0)
}

/// Records but for the number of their last change.
pub fn unnumbered(records: &[Record]) -> Vec<serde_json::Value> {
    let unnumbered = records.iter().map(|record| {
        let mut record = serde_json::to_value(record).expect("JSON");
        record.as_object_mut().expect("an object").remove("rev");
        record
    });
    unnumbered.collect()
}
