//! The `claudemesh` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    claudemesh_cli::main()
}
