//! The functions that run inside Redis, named by what they are: two versions of this program stand
//! side by side, each with its own.

use std::sync::LazyLock;

use pointsman_core::{decide::limits, hex};
use sha2::{Digest as _, Sha256};

use crate::{commit, encoding::keys, link::settings};

const PARTS: [&str; 15] = [
    include_str!("../lua/head.lua"),
    include_str!("../lua/plan.lua"),
    include_str!("../lua/order.lua"),
    include_str!("../lua/check.lua"),
    include_str!("../lua/choose.lua"),
    include_str!("../lua/wake.lua"),
    include_str!("../lua/write.lua"),
    include_str!("../lua/take.lua"),
    include_str!("../lua/commit.lua"),
    include_str!("../lua/open.lua"),
    include_str!("../lua/read.lua"),
    include_str!("../lua/beside.lua"),
    include_str!("../lua/doctor.lua"),
    include_str!("../lua/transfer.lua"),
    include_str!("../lua/register.lua"),
];

/// The limits of the rules stand in them too, and how keys are laid out.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    let numbers = [
        ("_FORMAT", keys::FORMAT.to_string()),
        ("_PLACES", (1_u64 << keys::PLACE_BITS).to_string()),
        ("_TOLD_BY", keys::TOLD_BY.to_string()),
        ("_LEASE_MS", limits::LEASE.as_millis().to_string()),
        ("_SILENT_MS", limits::SILENT_AFTER.as_millis().to_string()),
        ("_MAX_CLASSES", limits::MAX_CLASSES.to_string()),
        ("_CLAIM_BYTES", limits::CLAIM_BYTES.to_string()),
        ("_POISONOUS_AFTER", limits::POISONOUS_AFTER.to_string()),
        ("_CALM_MS", limits::CALM.as_millis().to_string()),
        ("_IDLE_BASES", limits::IDLE_BASES.to_string()),
        ("_NO_PREVIEWS_AT", settings::NO_PREVIEWS_AT.to_string()),
        ("_PAYLOAD_TOLD", commit::REMEMBERED_PAYLOAD.to_string()),
    ];
    numbers.iter().fold(PARTS.concat(), |text, (name, value)| text.replace(name, value))
});

/// The library's version: the first digits of its text's digest.
pub static VERSION: LazyLock<String> = LazyLock::new(|| hex::encode(&Sha256::digest(&*TEXT)[..4]));

/// The library's name.
pub fn named() -> String {
    format!("pointsman_{}", *VERSION)
}

/// The library as `FUNCTION LOAD` takes it.
pub fn code() -> String {
    let head = format!("#!lua name={}\n", named());
    head + &TEXT.replace("_VERSION", &format!("_{}", *VERSION))
}

/// A function's name in this version.
pub fn name(function: &str) -> String {
    format!("pointsman_{function}_{}", *VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is changed there is another library: old and new stand side by side.
    #[test]
    fn numbers_are_those_of_the_rules_and_of_the_keys() {
        let times = ["LEASE_MS = 10000\n", "SILENT_MS = 15000\n", "CALM_MS = 5000\n"];
        let limits = ["MAX_CLASSES = 10000\n", "POISONOUS_AFTER = 5\n", "IDLE_BASES = 1000\n"];
        let keys = ["FORMAT = 4\n", "PLACES = 70368744177664\n", "TOLD_BY = 4\n"];
        for number in times.into_iter().chain(limits).chain(keys) {
            assert!(TEXT.contains(&format!("local {number}")), "{number}");
        }
        assert!(!code().contains("= _"), "nothing is left to fill in");
    }

    /// Each is looked for among the user's rights, before anything is written.
    #[test]
    fn what_writes_is_named_among_what_must_be_allowed() {
        let list = |name: &str| {
            let (_, list) = TEXT.split_once(&format!("local {name} = {{")).expect("the list");
            list.split_once('}').expect("its end").0
        };
        let named = list("WRITTEN_WITH").to_owned() + list("ELSEWHERE_WITH");
        let reads = ["EXISTS", "INFO", "TIME", "TYPE", "XRANGE"];
        let called = TEXT.split("call('").skip(1).filter_map(|rest| rest.split('\'').next());
        for command in called {
            let starts = |with: &[&str]| with.iter().any(|with| command.starts_with(with));
            let is_read = reads.contains(&command)
                || starts(&["GET", "MGET", "HGET", "HMGET", "HLEN", "L", "SCARD", "SM", "SIS"])
                || starts(&["ZCARD", "ZRANGE", "ZRANK", "ZSCORE"]);
            let is_written = ["LPUSH", "LSET"].contains(&command);
            // A repair tells of `rename` by itself: without it all else goes on.
            let is_known = command == "RENAME" || named.contains(&format!("'{command}'"));
            assert!((is_read && !is_written) || is_known, "{command}");
        }
    }
}
