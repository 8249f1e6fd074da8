//! The binary: reads arguments and environment, and puts the parts together.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

fn main() -> ExitCode {
    match pointsman::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            if let Some(message) = exit.message() {
                // Its terminal may be gone; the code says it, too.
                let _ = writeln!(io::stderr(), "pointsman: {}", pointsman::plain(&message));
            }
            exit.code()
        }
    }
}
