//! The `serfling` program: [`serfling::cli`] does all the work.

use std::process::ExitCode;

fn main() -> ExitCode {
    serfling::cli::main()
}
