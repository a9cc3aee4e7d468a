//! `broker`: the broker in the foreground.

use super::{Context, signals};
use crate::CliError;
use claudemesh_broker::Broker;
use claudemesh_broker::config::Config;

/// Runs the broker in the foreground until Ctrl-C or SIGTERM. It is the same broker as the `claudemesh-broker` program and
/// takes the same environment variables.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  claudemesh broker\n  \
    BROKER_PORT=8080 BROKER_PUBLIC_URL=wss://mesh.example.org claudemesh broker\n\n\
    `claudemesh up` also creates a mesh and shows what happens in it.\n\n\
    JSON: one line, {\"event\":\"ready\",\"url\",\"dataDir\"}")]
pub(crate) struct BrokerArgs {}

/// Runs the broker.
pub(crate) async fn run(context: Context, _: BrokerArgs) -> Result<(), CliError> {
    let config = Config::from_env()
        .map_err(|error| CliError::usage(error.to_string(), "Correct the environment variable and start again."))?;
    let data_dir = config.data_dir.clone();
    let running = Broker::start(config)
        .await
        .map_err(|error| CliError::local(format!("The broker does not start: {error}"), "Check its settings."))?;
    let url = running.websocket_url();
    context
        .out
        .json_line(&serde_json::json!({ "event": "ready", "url": url, "dataDir": data_dir }))?;
    context
        .out
        .line(format!("broker  {url}, data in {}", data_dir.display()));
    signals::stop().await;
    context.out.note("Stopping…");
    running.shutdown().await;
    Ok(())
}
