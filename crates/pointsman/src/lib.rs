//! The binary's parts, as a library: so that benchmarks put them together in the same way.

pub mod adapters;
mod args;
mod commands;
mod exit;
mod identity;
mod logging;
mod open_files;
mod print;
mod roles;
mod services;
mod stop;
mod store_url;

use std::time::Duration;

use pointsman_client::Client;
use tokio::runtime::Runtime;

use crate::args::{Cli, Command};
pub use crate::{exit::Exit, print::plain};

/// What still runs when all is done is waited for no longer.
const LET_GO_AFTER: Duration = Duration::from_secs(5);

/// Reads the command line and does what it says.
///
/// # Errors
/// [`Exit`], with the code that the process should end with.
pub fn run() -> Result<(), Exit> {
    let mut cli = Cli::parse_or_exit();
    // What a script's unset variable leaves is no token.
    cli.token = cli.token.filter(|token| !token.is_empty());
    logging::begin()?;
    // A worker's calls follow one another: on one thread none of them waits for another thread.
    let mut runtime = match cli.command {
        Command::Worker(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build().map_err(|error| Exit::Other(error.into()))?;
    run_to_end(runtime, LET_GO_AFTER, act(cli))
}

/// A call of the system that hangs (on a mount whose server is gone, say) must not keep the process:
/// whoever needs its outcome has waited for it.
fn run_to_end<T>(runtime: Runtime, let_go_after: Duration, work: impl Future<Output = T>) -> T {
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(let_go_after);
    done
}

async fn act(cli: Cli) -> Result<(), Exit> {
    let Cli { server, token, json, command } = cli;
    let client = || Client::new(&server, token.as_deref());
    match command {
        Command::Up(args) => roles::up(args).await,
        Command::Server(args) => roles::server(args).await,
        Command::Worker(args) => roles::worker(args, token).await,
        Command::ComfyuiSim(args) => Ok(roles::comfyui_sim(args).await?),
        Command::Submit(args) => commands::submit(&client()?, &args, json).await,
        Command::Jobs(args) => commands::jobs(&client()?, &args, json).await,
        Command::Job { id } => commands::job(&client()?, id, json).await,
        Command::Download { id, out } => commands::download(&client()?, id, &out, json).await,
        Command::Workers => commands::workers(&client()?, json).await,
        Command::Machines => commands::machines(&client()?, json).await,
        Command::Watch => commands::watch(&client()?, json).await,
        Command::Cancel { id } => commands::cancel(&client()?, id, json).await,
        Command::Retry { id } => commands::retry(&client()?, id, json).await,
        Command::Explain { id } => commands::explain(&client()?, id, json).await,
        Command::Doctor { repair } => commands::doctor(&client()?, repair, json).await,
        Command::Token(args) => commands::token(&args, json),
        Command::Export(args) => commands::export(&args, json).await,
        Command::Import(args) => commands::import(&args, json).await,
        Command::Intake(args) => commands::intake(&args, client, json).await,
        Command::Restored(args) => commands::restored(&args, json).await,
        Command::Openapi => print::line(&pointsman_server::openapi_json()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_hangs_does_not_keep_the_process() {
        let (answer, hang) = std::sync::mpsc::channel::<()>();
        let runtime = Runtime::new().unwrap();
        let hung = runtime.spawn_blocking(move || hang.recv());
        run_to_end(runtime, Duration::from_millis(10), async {});
        assert!(!hung.is_finished());
        drop(answer);
    }
}
