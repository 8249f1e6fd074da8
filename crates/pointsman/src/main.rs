//! The binary: reads arguments and environment, and puts the parts together.

use std::process::ExitCode;

fn main() -> ExitCode {
    match pointsman::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            if let Some(message) = exit.message() {
                eprintln!("pointsman: {}", pointsman::plain(&message));
            }
            exit.code()
        }
    }
}
