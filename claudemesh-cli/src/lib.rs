//! The claudemesh command line: commands for daily work, the MCP server, and a broker to start with.
//!
//! Every command opens the configuration, talks to the mesh through `claudemesh-client`, and prints text for people or one
//! JSON document for programs. No protocol logic lives here.

mod cli;
mod commands;
pub mod config;
mod error;
mod logging;
pub mod mcp;
mod output;
mod text;

pub use config::Config;
pub use error::CliError;

use output::Output;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with the arguments and environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    // A broker of this program starts it again for the graphs of meshes.
    if let Some(code) = claudemesh_broker::backends::graph::serve_if_asked() {
        return code;
    }
    let arguments = cli::rewrite(std::env::args_os().collect());
    let json = wants_json(&arguments);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&error, json);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Whether errors are to be JSON, before the arguments are known to make sense.
fn wants_json(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .skip(1)
        .take_while(|word| *word != "--")
        .any(|word| word == "--json")
}

fn run(arguments: Vec<OsString>) -> Result<(), CliError> {
    let Some(cli) = cli::parse(arguments)? else {
        return Ok(());
    };
    logging::start();
    let out = Output::new(cli.global.json, cli.global.quiet);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::local(format!("Cannot start: {error}"), "Free some memory and try again."))?
        .block_on(commands::run(cli, out))
}
