//! What was given on the command line and in the environment, and what does not go together.

use clap::{
    ArgMatches, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use pointsman_store_redis::Address;

use super::{Cli, Command, Intake, Up};

impl Cli {
    /// Reads the command line; ends the process where it is wrong, or where help was asked for.
    pub fn parse_or_exit() -> Self {
        let matches = without_empty_variables(Self::command()).try_get_matches();
        let parsed = matches.and_then(|matches| Self::of(&matches));
        parsed.unwrap_or_else(|error| without_passwords(error).exit())
    }

    /// What is said on the command line is done or refused; what only the environment says is for
    /// those commands that use it.
    pub(super) fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        let is_said =
            |of: &ArgMatches, option| of.value_source(option) == Some(ValueSource::CommandLine);
        let conflict = |why: &str| {
            let why = format!("{why}\n");
            Self::command().error(ErrorKind::ArgumentConflict, why)
        };
        // A server that is named there is asked, whatever store the environment names.
        if let (Command::Intake(intake), Some((_, given))) =
            (&mut cli.command, matches.subcommand())
            && is_said(given, "server")
        {
            match is_said(given, "store") {
                true => {
                    return Err(conflict("--server and --store name two places: give one of them"));
                }
                false => intake.store = None,
            }
        }
        if let Command::Up(up) = &cli.command
            && let Some(why) = up.leaves_out()
        {
            return Err(conflict(&why));
        }
        let used = cli.command.global_options();
        let unused = GLOBAL_OPTIONS
            .into_iter()
            .find(|option| !used.contains(option) && is_said(matches, option));
        match unused {
            Some(option) => Err(conflict(&cli.command.does_not_use(option))),
            None => Ok(cli),
        }
    }
}

impl Up {
    /// ComfyUIs that no worker would drive.
    fn leaves_out(&self) -> Option<String> {
        let (workers, comfyuis) = (self.workers? as usize, self.comfyui.len());
        let left = self.comfyui.get(workers..).filter(|left| !left.is_empty())?.join(", ");
        Some(format!(
            "--workers {workers} leaves {left} without a worker: use --workers {comfyuis} or more, \
             or leave one of the --comfyui out"
        ))
    }
}

/// The options of [`Cli`] itself, which may stand at every command.
const GLOBAL_OPTIONS: [&str; 3] = ["server", "token", "json"];

impl Command {
    /// Those of the global options that the command does something with.
    fn global_options(&self) -> &'static [&'static str] {
        match self {
            Self::Up(_) | Self::Server(_) | Self::ComfyuiSim(_) | Self::Openapi => &[],
            Self::Worker(_) => &["token"],
            Self::Token(_) | Self::Export(_) | Self::Import(_) | Self::Restored(_) => &["json"],
            Self::Intake(Intake { store: Some(_), .. }) => &["json"],
            Self::Intake(_) | Self::Submit(_) | Self::Download { .. } => &GLOBAL_OPTIONS,
            Self::Jobs(_) | Self::Job { .. } | Self::Cancel { .. } | Self::Retry { .. } => {
                &GLOBAL_OPTIONS
            }
            Self::Explain { .. }
            | Self::Workers
            | Self::Machines
            | Self::Watch
            | Self::Doctor { .. } => &GLOBAL_OPTIONS,
        }
    }

    fn does_not_use(&self, option: &str) -> String {
        let instead = match (self, option) {
            (Self::Worker(_), "server") => "--broker names the server that a worker works for",
            (Self::Token(_), "server") => "--data names the server's data directory",
            (
                Self::Export(_) | Self::Import(_) | Self::Intake(_) | Self::Restored(_),
                "server" | "token",
            ) => "it acts on the store that --store or POINTSMAN_STORE names",
            (Self::Up(_) | Self::Server(_), "server") => {
                "it is a server itself; --listen says where"
            }
            (Self::Up(_) | Self::Server(_), "token") => {
                "`pointsman token add` makes the tokens that it takes"
            }
            _ => "leave it out",
        };
        format!("this command does not use --{option}: {instead}")
    }
}

/// A variable that is set to nothing is one that is not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let name = arg.get_env();
        name.and_then(std::env::var_os).is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// What is said of a wrong command line ends in journals, and quotes what was given.
pub(super) fn without_passwords(mut error: clap::Error) -> clap::Error {
    let quoted: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, Address::redacted(text))),
            _ => None,
        })
        .collect();
    for (kind, text) in quoted {
        error.insert(kind, ContextValue::String(text));
    }
    error
}
