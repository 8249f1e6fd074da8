//! The store on Redis (7.0 or newer) or Valkey: for more than one machine. Workers may use it
//! directly, and any number of servers stand side by side.
//!
//! Decisions are made by `core`, here, on records that were read before; one function inside Redis,
//! `commit` (src/lua/commit.lua), applies them: it compares what the decision was made on, checks its
//! guards and everything that it will write, and then writes the log, records, indexes and wake-ups in
//! one step, or nothing. It also chooses the jobs of a claim. Renewals that change no record, most
//! of all calls, have `hear` beside it: the same checks, and nothing but heartbeats and leases.
//!
//! Every transition and every event of a command or a reconciler goes through `commit`; the choice of
//! a job is a part of it, so that a job is taken in the same step in which other work is handed in.
//! What else writes holds no decision of `core`, and is a function of its own, so that `commit` stays
//! one that can be read whole:
//!
//! | functions | write | and check before |
//! | --- | --- | --- |
//! | `hear` | heartbeats and leases | as `commit` |
//! | `open` | `meta` of a new fleet, or of a new epoch | the rights of its user, `format`, `fleet` |
//! | `contact` | since when servers look; leases and heartbeats that lie ahead of the clock are cut | `format`; a list of another type is passed over |
//! | `set_intake` | one field of `meta` | the epoch, and that nobody imports into it |
//! | `serve` | which classes a profile can serve | the epoch, that the profile is there, and that no class is beyond the last |
//! | `wait` `pass_on` | hints: who waits, and wake-ups | nothing more: whoever waits looks by itself |
//! | `ask_replicas` `keep_preview` | one key that decides nothing | the epoch; that no newer picture stands there |
//! | `rewrite` `set_aside` `reindex` | what the doctor repairs; of a record with its event | that what it found is still so |
//! | `delete_asides` `forget_asides` | what was set aside, and the notes of it | that a record stands in its place, or nothing lies there any more |
//! | `begin_import` `finish_import` `seize_import` `clear_import` `reset` | a store that nobody works on yet | that it is empty or being imported, by this import |
//!
//! `load`, `first_waiting` and `idempotency` only read. Beside functions, retention cuts the log
//! (`XTRIM`) and forgets keys of submissions (`ZREMRANGEBYSCORE`).
//!
//! # Where what is
//!
//! | in `src/` | what it does |
//! | --- | --- |
//! | `store.rs`, `transfer.rs` | the store as the rest of the program sees it, and how it is moved |
//! | `link/` | the connection: addresses, TLS, settings, sentinels, health, and the code of the functions |
//! | `execute/` | a command, from what is seen to a decision: alone, together with others, or piece by piece |
//! | `plan/` | what a decision becomes: the checks, and the writes of records and indexes |
//! | `commit/` | the call of the function, and what became of it |
//! | `encoding/` | names of keys, records as hashes, results, MessagePack |
//! | `reads/`, `log.rs`, `lanes.rs` | what is only read; the log; progress and previews |
//! | `classes.rs`, `wake/` | which profile can serve which class; who waits, and how it is woken |
//! | `due/`, `doctor/` | what becomes due by time; what is found wrong and mended |
//! | `lua/` | the functions that run inside Redis |
//!
//! # The keys of a fleet, all under `{pointsman:FLEET}:`
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `meta` | hash | `format`, `fleet`, `created_at`, `epoch`, `replid`; the last `seq`, `ended_no` and `classes_rev`; jobs by status, `ended_bytes`, how many bases have `losses`; since when servers look without a gap (`contact_since`, `contact_at`), until when workers first take back what they run (`calm_until`); `closed`, `importing` |
//! | `job:ID` `worker:ID` `connector:ID` `machine:ID` `alert:ID` | hash | the records, a field each |
//! | `jobs` | zset | job ids, by id |
//! | `workers` `machines` `connectors` `alerts` | set | ids |
//! | `machine:ID:workers` | set | its workers |
//! | `queue:CLASS` | zset | waiting jobs: score (100 − priority)·2^46 + place, member `SEQ:JOB` |
//! | `heads:SERVICE` | zset | each class's best entry, same score, member `SEQ:CLASS` |
//! | `class:CLASS` | hash | definition, service, base, excluded workers, jobs that live, wait held and run, head |
//! | `classes` | zset | classes by their birth |
//! | `resting` | zset | those without a live job, by when it went, ms |
//! | `held` `services` `base:CLASS` | set | classes with held jobs, services with classes, classes that differ in exclusions only |
//! | `losses` | hash | losses in a row, by base |
//! | `profile:DIGEST` `profiles` | hash, set | capabilities, users, up to which class it was worked out |
//! | `serves:DIGEST:SERVICE` | set | classes that the profile can serve, while a worker of it is there |
//! | `leases` | zset | running jobs by the end of their lease, ms of Redis' clock |
//! | `pulse` | zset | who was heard when: `w:WORKER` `m:MACHINE` `c:CONNECTOR`, ms·4 + what told it |
//! | `holds` `exclusions` | zset | jobs by when these end |
//! | `ended` | zset | ended jobs by `ended_no` |
//! | `present` | hash | workers there by profile |
//! | `payload:JOB` `preview:JOB` | | beside the records |
//! | `results:JOB` | list | what attempts handed in, `ATTEMPT TOKEN LATE JSON` |
//! | `idempotency:…` `group:…` | | keys of submissions, places of workflow groups |
//! | `idempotency` | zset | keys of submissions by when they end |
//! | `log` | stream | every group of events, entry `SEQ-0` |
//! | `waiting:SERVICE` | zset | profiles of which somebody waits, by the end of their word |
//! | `waiting:SERVICE:DIGEST` | zset | the processes that said so, likewise |
//! | `wake:DIGEST:SERVICE` | list | at most one wake-up a profile |
//! | `acks_at` | string | when replicas were last asked what they have: a write for `WAIT` to be about |
//! | `quarantine:KEY` | | what the doctor set aside, once more with `:2` |
//! | `quarantined` | hash | what follows `quarantine:` in such a key, and the key that it was, with ` anew` if its record was made anew |
//!
//! The channel `progress`, under the same prefix, tells what runs comes to; nothing keeps it.

mod classes;
mod commit;
mod doctor;
mod due;
mod encoding;
mod execute;
mod lanes;
mod link;
mod log;
mod plan;
mod reads;
mod store;
mod transfer;
mod wake;

pub use link::address::{Address, AddressError, Topology};
pub use link::settings::{Info, SettingsError};
pub use link::{OpenError, Opening};
pub use store::{Options, RedisStore};
