//! The client commands: look and act, through a server; and those that act on a server's data.

mod act;
mod doctor;
mod download;
mod list;
mod out;
mod restored;
mod submit;
mod token;
mod transfer;
mod watch;

use std::time::Duration;

use pointsman_api::ErrorCode;
use pointsman_client::{Client, ClientError};
use tokio::time::sleep;

use crate::{
    args::{Cli, Command},
    exit::Exit,
    print,
};

pub use restored::restored;
pub use token::token;
pub use transfer::{export, import, intake};

/// How often a request is sent while it is not known whether it was done, and the pause between.
const REPEATS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Runs one client command.
pub async fn run(cli: &Cli, command: &Command) -> Result<(), Exit> {
    let client = Client::new(&cli.server, cli.token.as_deref()).map_err(exit_of)?;
    match command {
        Command::Submit(args) => submit::submit(&client, args, cli.json).await,
        Command::Jobs(args) => list::jobs(&client, args, cli.json).await,
        Command::Job { id } => list::job(&client, *id, cli.json).await,
        Command::Download { id, out } => download::download(&client, *id, out, cli.json).await,
        Command::Workers => list::workers(&client, cli.json).await,
        Command::Machines => list::machines(&client, cli.json).await,
        Command::Watch => watch::watch(&client, cli.json).await,
        Command::Cancel { id } => act::cancel(&client, *id, cli.json).await,
        Command::Retry { id } => act::retry(&client, *id, cli.json).await,
        Command::Explain { id } => act::explain(&client, *id, cli.json).await,
        Command::Doctor { repair } => doctor::doctor(&client, *repair, cli.json).await,
        other => Err(Exit::Usage(format!("{other:?} is no client command"))),
    }
}

/// A request that may be repeated exactly is, while it is not known whether it was done.
async fn until_known<T>(
    mut request: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    for _ in 1..REPEATS {
        match request().await {
            Err(error) if error.is(ErrorCode::OutcomeUnknown) => sleep(PAUSE).await,
            answered => return answered,
        }
    }
    request().await
}

/// What went wrong with a request, as the exit code tells it: with 3 the same may work later.
fn exit_of(error: ClientError) -> Exit {
    match &error {
        ClientError::Unreachable(_) | ClientError::Unexpected(_) => {
            Exit::Unreachable(error.to_string())
        }
        ClientError::Refused(problem) => {
            let refused = Exit::Refused(format!("refused: {}", print::problem(problem)));
            match problem.is(ErrorCode::Unauthorized) {
                true => refused.with_hint("the token is given with --token or POINTSMAN_TOKEN"),
                false => refused,
            }
        }
        // The store is away, full, or does not know whether it was done.
        ClientError::Problem(problem) if error.is_transient() => {
            Exit::Unreachable(print::problem(problem))
        }
        ClientError::Problem(problem) => Exit::Usage(print::problem(problem)),
        ClientError::Address { .. } | ClientError::Request(_) => Exit::Usage(error.to_string()),
    }
}
