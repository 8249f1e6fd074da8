//! What a Redis says of itself, and whether a fleet can live there.

use std::collections::HashMap;

use pointsman_store::{Judgement, Risk, Setting};

/// The lines of `INFO` that matter here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Info {
    pub is_valkey: bool,
    /// Its own, not that of the Redis which a Valkey says it is like.
    pub version: String,
    /// Of the process: another one after a restart.
    pub run_id: String,
    pub role: String,
    /// The replication id: another one after a restart, a fail-over, a restored copy.
    pub replid: String,
    pub used_memory: u64,
    /// 0 is no limit.
    pub maxmemory: u64,
    pub maxmemory_policy: String,
    pub aof_enabled: bool,
    /// It is being rewritten, or will be in a moment.
    pub aof_rewrite: Option<Rewrite>,
    pub aof_last_write_ok: bool,
    /// Also the first one, without which the file lacks all that was there before.
    pub aof_last_rewrite_ok: bool,
    pub replicas: u64,
    /// It reads what it keeps, and says meanwhile that it keeps no append-only file.
    pub is_loading: bool,
}

/// Of an append-only file. It lacks all that was there before it was switched on until its first
/// rewrite is done, of which Redis speaks in the same words as of any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    First,
    Later,
    /// It was under way at the first look.
    NotKnown,
}

impl Info {
    /// Asks for what [`Info`] is made of, and no more; before Redis 7 that was no command.
    pub fn sections() -> redis::Cmd {
        let mut info = redis::cmd("INFO");
        info.arg(&["server", "memory", "persistence", "replication"]);
        info
    }

    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        let fields: HashMap<&str, &str> = lines.collect();
        let text = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
        let number = |name: &str| fields.get(name).and_then(|n| n.parse().ok()).unwrap_or(0);
        let went_well = |name: &str| fields.get(name).is_none_or(|status| *status == "ok");
        // The `redis_version` of every Valkey is 7.2.4.
        let is_valkey = fields.contains_key("valkey_version");
        // Since Valkey 8 it is the mode of a server.
        let modes = ["redis_mode", "server_mode"];
        let is_rewritten = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
        let is_sentinel = modes.iter().any(|mode| fields.get(mode) == Some(&"sentinel"));
        Self {
            is_valkey,
            version: text(if is_valkey { "valkey_version" } else { "redis_version" }),
            run_id: text("run_id"),
            role: if is_sentinel { "Sentinel".to_owned() } else { text("role") },
            replid: text("master_replid"),
            used_memory: number("used_memory"),
            maxmemory: number("maxmemory"),
            maxmemory_policy: text("maxmemory_policy"),
            aof_enabled: number("aof_enabled") == 1,
            aof_rewrite: is_rewritten
                .iter()
                .any(|field| number(field) == 1)
                .then_some(Rewrite::NotKnown),
            aof_last_write_ok: went_well("aof_last_write_status"),
            aof_last_rewrite_ok: went_well("aof_last_bgrewrite_status"),
            replicas: number("connected_slaves"),
            is_loading: number("loading") == 1,
        }
    }

    /// With what shows only beside what it said before.
    pub fn after(self, before: &Self) -> Self {
        let rewrite = match before {
            before if before.run_id != self.run_id => Rewrite::NotKnown,
            Self { aof_enabled: false, .. } => Rewrite::First,
            Self { aof_rewrite, .. } => aof_rewrite.unwrap_or(Rewrite::Later),
        };
        Self { aof_rewrite: self.aof_rewrite.map(|_| rewrite), ..self }
    }

    /// What an operator calls it.
    pub fn name(&self) -> &'static str {
        if self.is_valkey { "Valkey" } else { "Redis" }
    }

    /// The share of its memory that is used, 0 to 1; none without a limit.
    pub fn memory_used(&self) -> Option<f64> {
        (self.maxmemory > 0).then(|| self.used_memory as f64 / self.maxmemory as f64)
    }

    /// Why a fleet cannot live here. (No Valkey is too old.)
    pub fn refusal(&self) -> Option<SettingsError> {
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            return Some(SettingsError::TooOld { version: self.version.clone() });
        }
        if self.role != "master" {
            let (name, role) = (self.name(), self.role.clone());
            return Some(SettingsError::NotPrimary { name, role, named_by: None });
        }
        // Without a limit nothing is ever evicted.
        if self.maxmemory > 0 && self.maxmemory_policy != "noeviction" {
            let (name, policy) = (self.name(), self.maxmemory_policy.clone());
            return Some(SettingsError::Evicts { name, policy });
        }
        None
    }

    /// Settings that a fleet can live with, and that an operator should know of. What depends on
    /// `acks`, which each process has its own of, is named with it.
    pub fn judged(&self, acks: u32) -> Vec<Setting> {
        let setting = |name: &str, judgement| Setting { name: name.to_owned(), judgement };
        let mut settings = vec![
            setting("appendonly", self.append_only()),
            setting("maxmemory-policy", self.drops_jobs().into()),
        ];
        if acks > 0 {
            let judgement = self.too_few_replicas(acks).into();
            settings.push(setting(&format!("acks-{acks}"), judgement));
        }
        settings
    }

    /// Settings that are risky since, or in another way, or not any more; nothing at the first look, of
    /// which whoever opens the store tells.
    pub fn changed_since(&self, before: &Self) -> Vec<Setting> {
        if before.version.is_empty() {
            return Vec::new();
        }
        let were = before.judged(0);
        // What could not be told may never have been a risk.
        let could_be_sound = |is: &Setting| {
            let was_not_known =
                |was: &Setting| was.name == is.name && was.judgement == Judgement::NotKnown;
            is.judgement == Judgement::Sound && were.iter().any(was_not_known)
        };
        let is_news = |is: &Setting| !were.contains(is) && !could_be_sound(is);
        self.judged(0).into_iter().filter(is_news).collect()
    }

    fn append_only(&self) -> Judgement {
        let name = self.name();
        let lacks = |lacks: &str| {
            let lost = "so a restart loses every job since its last snapshot";
            Judgement::AtRisk(risk(format!("{name} {lacks}, {lost}"), APPEND_ONLY))
        };
        let failed = |what: &str| {
            let message = format!("{name} could not {what} its append-only file the last time");
            Judgement::AtRisk(risk(message, "look at its disk, its memory and its log"))
        };
        match self.aof_rewrite {
            _ if !self.aof_enabled => lacks("keeps no append-only file"),
            _ if !self.aof_last_write_ok => failed("write"),
            // All servers see this, and not all know which rewrite is tried again.
            _ if !self.aof_last_rewrite_ok => failed("rewrite"),
            Some(Rewrite::First) => {
                lacks("is still writing its append-only file for the first time")
            }
            Some(Rewrite::NotKnown) => Judgement::NotKnown,
            Some(Rewrite::Later) | None => Judgement::Sound,
        }
    }

    fn drops_jobs(&self) -> Option<Risk> {
        let drops = match (self.maxmemory_policy.as_str(), self.maxmemory) {
            ("noeviction", _) => return None,
            (_, 0) => "would drop jobs under a memory limit",
            _ => "drops jobs when memory is short",
        };
        let (name, policy) = (self.name(), &self.maxmemory_policy);
        Some(risk(
            format!("the maxmemory-policy of {name} is {policy}, which {drops}"),
            NO_EVICTION,
        ))
    }

    /// Where so many replicas must have what is answered.
    fn too_few_replicas(&self, acks: u32) -> Option<Risk> {
        let (name, replicas) = (self.name(), self.replicas);
        (replicas < u64::from(acks)).then(|| {
            risk(
                format!(
                    "{name} has {replicas} replicas and --acks is {acks}, so no submission or \
                     ending can be confirmed"
                ),
                "let more replicas follow it, or start with a lower --acks",
            )
        })
    }
}

/// With the configuration file alone changed, Redis reads an append-only file at its next start that
/// is not there yet; without the rewrite of it the next start is without the file again.
const APPEND_ONLY: &str = "\
    CONFIG SET appendonly yes; once INFO persistence says aof_rewrite_scheduled:0, \
    aof_rewrite_in_progress:0 and aof_last_bgrewrite_status:ok, CONFIG REWRITE (where it has no \
    configuration file: start it with --appendonly yes from then on). A restart with only the \
    configuration file changed starts empty";

const NO_EVICTION: &str = "\
    CONFIG SET maxmemory-policy noeviction, then CONFIG REWRITE (where it has no configuration file: \
    start it with --maxmemory-policy noeviction from then on)";

fn risk(message: impl Into<String>, action: &str) -> Risk {
    Risk { message: message.into(), action: action.to_owned() }
}

/// A Redis that no fleet can live on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("Redis {version} is too old: 7.0 or newer, or Valkey, is needed (functions)")]
    TooOld { version: String },
    #[error("{}", not_primary(name, role, named_by.as_deref()))]
    NotPrimary {
        name: &'static str,
        role: String,
        /// The Sentinel that calls it the primary.
        named_by: Option<String>,
    },
    #[error(
        "the maxmemory-policy of {name} is {policy}, which drops keys when memory is short: \
         {NO_EVICTION}"
    )]
    Evicts { name: &'static str, policy: String },
}

fn not_primary(name: &str, role: &str, named_by: Option<&str>) -> String {
    match named_by {
        Some(sentinel) => format!(
            "what the Sentinel at {sentinel} calls the primary is a {role}: has it missed a fail-over?"
        ),
        None => format!(
            "this {name} is a {role}: give the primary's address, or Sentinels that know it \
             (redis+sentinel://HOST:PORT/MASTER)"
        ),
    }
}

/// From this share of its memory on no previews are kept: they must not fill it.
pub const NO_PREVIEWS_AT: f64 = 0.7;
/// From this share of its memory on, submissions are refused: what runs can still end.
pub const FULL_AT: f64 = 0.8;
/// Below this share they are taken again.
pub const ROOM_AT: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Info {
        Info::parse(
            "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaxmemory:0\r\n\
             maxmemory_policy:noeviction\r\naof_enabled:1\r\nmaster_replid:ab\r\n",
        )
    }

    fn warnings(info: &Info) -> Vec<Risk> {
        info.judged(0).iter().filter_map(Setting::risk).cloned().collect()
    }

    /// What another server than the tests' own says, as it says it (INFO, shortened).
    fn valkey(version: &str, mode: &str) -> Info {
        Info::parse(&format!(
            "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:{version}\r\n\
             {mode}\r\nos:Linux\r\nrun_id:cd\r\n"
        ))
    }

    #[test]
    fn a_valkey_is_called_by_its_own_name_and_version() {
        for (version, mode) in
            [("7.2.7", "redis_mode:standalone"), ("8.0.1", "server_mode:standalone")]
        {
            let info = valkey(version, mode);
            assert_eq!((info.name(), info.version.as_str()), ("Valkey", version));
            let info = Info { role: "master".into(), ..info };
            assert_eq!(info.refusal(), None, "it has functions");
            let risks = warnings(&info);
            assert!(risks.iter().all(|risk| risk.message.contains("Valkey")), "{risks:?}");
            let replica = Info { role: "slave".into(), ..info };
            let why = replica.refusal().unwrap().to_string();
            assert!(why.starts_with("this Valkey is a slave: "), "{why}");
        }
        assert_eq!((good().name(), good().version.as_str()), ("Redis", "7.0.15"));
    }

    /// Seen of 7.0.15 with `appendonly yes`: until it has loaded, it keeps no such file.
    #[test]
    fn one_that_loads_is_told_from_one_without_an_append_only_file() {
        let info = Info::parse("role:master\r\nloading:1\r\naof_enabled:0\r\n");
        assert!(info.is_loading && !good().is_loading);
    }

    /// Their INFO has no role.
    #[test]
    fn a_sentinel_is_told_from_a_server_also_where_it_is_a_valkey() {
        let redis = Info::parse("redis_version:7.0.15\r\nredis_mode:sentinel\r\n");
        let valkeys = [("7.2.7", "redis_mode:sentinel"), ("8.0.1", "server_mode:sentinel")];
        for info in valkeys.map(|(version, mode)| valkey(version, mode)).into_iter().chain([redis])
        {
            let why = info.refusal().expect("it has no keys").to_string();
            assert!(why.contains("is a Sentinel: give the primary's address"), "{why}");
        }
    }

    #[test]
    fn a_sound_redis_is_admitted_without_a_word() {
        assert_eq!((good().refusal(), warnings(&good())), (None, Vec::new()));
    }

    /// Servers with other `--acks` judge something else.
    #[test]
    fn settings_are_told_apart() {
        let names = |acks| good().judged(acks).into_iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(0), ["appendonly", "maxmemory-policy"]);
        assert_eq!(names(2), ["appendonly", "maxmemory-policy", "acks-2"]);
    }

    #[test]
    fn what_has_changed_is_told_once() {
        let (good, evicts) = (good(), Info { maxmemory_policy: "allkeys-lru".into(), ..good() });
        let changed = |is: &Info, before: &Info| {
            let changed = is.changed_since(before).into_iter();
            changed.map(|setting| (setting.risk().is_some(), setting.name)).collect::<Vec<_>>()
        };
        assert_eq!(changed(&evicts, &Info::default()), [], "it is told where it is opened");
        assert_eq!(changed(&evicts, &good), [(true, "maxmemory-policy".to_owned())]);
        assert_eq!(changed(&evicts, &evicts), []);
        assert_eq!(changed(&good, &evicts), [(false, "maxmemory-policy".to_owned())]);
        let unknown = Info { aof_rewrite: Some(Rewrite::NotKnown), ..good.clone() };
        assert_eq!(changed(&good, &unknown), [], "it may never have been a risk");
    }

    #[test]
    fn fewer_replicas_than_must_confirm_are_named() {
        let replicas = |replicas| Info { replicas, ..good() };
        assert_eq!(
            [(0, 0), (1, 1), (2, 1)].map(|(n, acks)| replicas(n).too_few_replicas(acks)),
            [None, None, None]
        );
        let said = replicas(1).too_few_replicas(2).unwrap();
        assert!(said.message.contains("1 replicas and --acks is 2"), "{said}");
    }

    #[test]
    fn settings_that_lose_jobs_are_refused_or_named() {
        let old = Info { version: "6.2.1".into(), ..good() };
        let why = old.refusal().expect("it has no functions").to_string();
        assert!(
            why.starts_with("Redis 6.2.1 is too old: 7.0 or newer, or Valkey, is needed"),
            "{why}"
        );
        let replica = Info { role: "slave".into(), ..good() };
        assert!(matches!(replica.refusal(), Some(SettingsError::NotPrimary { .. })));
        let evicts = Info { maxmemory: 1, maxmemory_policy: "allkeys-lru".into(), ..good() };
        assert!(matches!(evicts.refusal(), Some(SettingsError::Evicts { .. })));
        // Set under a running server it is no refusal any more.
        for maxmemory in [0, 1] {
            let evicts = Info { maxmemory, maxmemory_policy: "allkeys-lru".into(), ..good() };
            let warnings = warnings(&evicts);
            assert_eq!(warnings.len(), 1, "{maxmemory}");
            assert!(warnings[0].message.contains("allkeys-lru, which "), "{}", warnings[0]);
            assert!(warnings[0].action.contains("CONFIG REWRITE"), "a restart keeps it");
        }
        let volatile = Info { aof_enabled: false, ..good() };
        assert_eq!((volatile.refusal(), warnings(&volatile).len()), (None, 1));
        let risk = &warnings(&volatile)[0];
        assert!(risk.message.contains("loses every job"), "{risk}");
        let steps = ["CONFIG SET appendonly yes", "aof_rewrite_in_progress:0", "CONFIG REWRITE"];
        let places = steps.map(|step| risk.action.find(step));
        assert!(places.is_sorted() && places[0].is_some(), "{risk}");
    }

    /// As 7.0.15 says it: of the first rewrite in the same words as of any other.
    #[test]
    fn an_append_only_file_that_was_switched_on_is_a_risk_until_it_is_written() {
        let info = |run: &str, is_on: u8, rewritten: u8, scheduled: u8| {
            Info::parse(&format!(
                "run_id:{run}\r\naof_enabled:{is_on}\r\naof_rewrite_in_progress:{rewritten}\r\n\
                 aof_rewrite_scheduled:{scheduled}\r\naof_last_bgrewrite_status:ok\r\n"
            ))
        };
        let (none, first) = ("keeps no append-only file", "is still writing its append-only file");
        let mut seen = Info::default();
        for (next, expected) in [
            (info("a", 1, 1, 0), "not known"),
            (info("a", 1, 0, 1), "not known"),
            (info("a", 1, 0, 0), "sound"),
            (info("a", 1, 1, 0), "sound"),
            (info("a", 0, 0, 0), none),
            (info("a", 1, 0, 1), first),
            (info("a", 1, 1, 0), first),
            (info("a", 1, 0, 0), "sound"),
            (info("a", 1, 1, 0), "sound"),
            (info("a", 0, 0, 0), none),
            (info("b", 1, 1, 0), "not known"),
            (info("b", 0, 1, 0), none),
            (info("b", 1, 1, 0), first),
        ] {
            seen = next.after(&seen);
            let said = match seen.append_only() {
                Judgement::Sound => "sound".to_owned(),
                Judgement::AtRisk(risk) => risk.message,
                Judgement::NotKnown => "not known".to_owned(),
            };
            assert!(said.contains(expected), "{said:?}, not {expected:?}");
        }
    }

    /// After CONFIG SET appendonly yes it holds nothing before the first rewrite went well.
    #[test]
    fn an_append_only_file_that_cannot_be_written_or_rewritten_is_named() {
        for (status, what) in
            [("aof_last_write_status", "write"), ("aof_last_bgrewrite_status", "rewrite")]
        {
            let said = |how: &str| {
                let info = Info::parse(&format!("aof_enabled:1\r\n{status}:{how}\r\n"));
                let again = [None, Some(Rewrite::First), Some(Rewrite::NotKnown)];
                again.map(|aof_rewrite| Info { aof_rewrite, ..info.clone() }.append_only())
            };
            assert_eq!(said("ok")[0], Judgement::Sound);
            for judgement in said("err") {
                let Judgement::AtRisk(risk) = judgement else { panic!("{what} failed") };
                let message = format!("Redis could not {what} its append-only file the last time");
                assert_eq!(risk.message, message, "whoever looks, and whenever");
            }
        }
    }
}
