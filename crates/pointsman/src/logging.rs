//! What a process logs, and where.

use std::{
    env::VarError,
    io::{self, IsTerminal as _},
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

use crate::exit::Exit;

/// The parts that a filter may name, beside the libraries that they use.
const PARTS: [&str; 15] = [
    "pointsman",
    "pointsman_api",
    "pointsman_broker",
    "pointsman_client",
    "pointsman_comfyui",
    "pointsman_comfyui_sim",
    "pointsman_connectors",
    "pointsman_core",
    "pointsman_machine",
    "pointsman_redis_testing",
    "pointsman_server",
    "pointsman_store",
    "pointsman_store_redis",
    "pointsman_store_sqlite",
    "pointsman_worker",
];

/// Logs to standard error from now on. Where nobody hears it any more, as its terminal was closed, the
/// process goes on.
///
/// # Errors
/// [`Exit::Usage`] when `POINTSMAN_LOG` cannot be read.
pub fn begin() -> Result<(), Exit> {
    let filter = filter()?;
    let ansi = io::stderr().is_terminal();
    fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(ansi)
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// What is logged: what `POINTSMAN_LOG` says; `info` where it says nothing.
#[expect(clippy::disallowed_methods, reason = "it is the binary that reads it")]
fn filter() -> Result<EnvFilter, Exit> {
    let filter = match std::env::var("POINTSMAN_LOG") {
        Ok(filter) if !filter.is_empty() => parsed(&filter),
        Ok(_) | Err(VarError::NotPresent) => Ok("info".into()),
        Err(error) => Err(error.to_string()),
    };
    filter.map_err(|why| {
        Exit::Usage(format!(
            "POINTSMAN_LOG is no filter of log lines: {why}; use a level (off, error, warn, info, \
             debug, trace), or also one for each part, such as warn,pointsman_broker=debug"
        ))
    })
}

/// A word that is no level would be taken for a part of that name, and then nothing else is logged.
fn parsed(filter: &str) -> Result<EnvFilter, String> {
    let directives = filter.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let directives: Vec<&str> = directives.collect();
    directives.iter().try_for_each(|directive| check(directive))?;
    EnvFilter::try_new(directives.join(",")).map_err(|error| error.to_string())
}

fn check(directive: &str) -> Result<(), String> {
    let is_level = directive.parse::<LevelFilter>().is_ok();
    let name = directive.split(['=', '[', ':']).next().unwrap_or_default();
    if is_level || name.is_empty() || PARTS.contains(&name) {
        return Ok(());
    }
    if name == directive {
        return Err(format!("{name:?} is no level"));
    }
    let meant = format!("pointsman_{name}");
    match PARTS.contains(&&*meant) {
        true => Err(format!("{name:?} is no part: it is called {meant}")),
        false if name.starts_with("pointsman") => Err(format!("{name:?} is no part")),
        // A library.
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_and_one_for_each_part_is_a_filter() {
        for fine in [
            "warn",
            "WARN",
            "off",
            "warn,pointsman_broker=debug",
            " warn , pointsman_broker::hub=trace,",
            "pointsman=info,hyper=debug",
            "info,pointsman_store_redis[link]=debug",
        ] {
            assert!(parsed(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn what_would_silence_everything_is_refused_by_name() {
        for (wrong, said) in [
            ("warning", "\"warning\" is no level"),
            ("9", "\"9\" is no level"),
            ("warn,loud", "\"loud\" is no level"),
            ("warn,pointsman_brokr=debug", "\"pointsman_brokr\" is no part"),
            ("warn,broker=debug", "it is called pointsman_broker"),
            ("pointsman_broker=loud", "level"),
        ] {
            let why = parsed(wrong).map(drop).unwrap_err();
            assert!(why.contains(said), "{wrong}: {why}");
        }
    }

    #[test]
    fn every_part_is_known() {
        let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let mut found: Vec<String> = std::fs::read_dir(crates)
            .unwrap()
            .map(|part| part.unwrap().file_name().into_string().unwrap().replace('-', "_"))
            .map(|part| if part == "pointsman" { part } else { format!("pointsman_{part}") })
            .collect();
        found.sort();
        assert_eq!(found, PARTS);
    }
}
