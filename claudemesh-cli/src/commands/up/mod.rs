//! `up`: a broker and a mesh on this machine, and a view of what happens.

mod demo;
mod host;
mod watch;

use super::enrol::{self, Enrolled};
use super::session::Session;
use super::{Context, signals};
use crate::output::{Output, Style};
use crate::{CliError, config};
use host::Host;
use std::path::PathBuf;

/// Starts a broker on this machine (or finds the one that runs), creates a mesh if you have none, prints an invite link,
/// and shows joins, messages and state changes until Ctrl-C.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh up\n  claudemesh up --demo          # with two peers, ana and ben\n  \
    claudemesh up --port 8080 --name kai --mesh-name team\n\n\
    JSON: first {\"event\":\"ready\",\"url\",\"dataDir\",\"started\":bool,\"mesh\":{…},\"invite\":{\"url\",\"code\",\"expiresAt\"}}, then one\n\
    event per line: peer_joined, peer_left, message_sent, receipt, state_set and other types of the audit log."
)]
pub(crate) struct UpArgs {
    /// Add two peers, ana and ben, who write to each other and answer you
    #[arg(long)]
    demo: bool,
    /// Port on 127.0.0.1 (the last one, else 7900 or the next free one)
    #[arg(long)]
    port: Option<u16>,
    /// Your name in the mesh
    #[arg(long)]
    name: Option<String>,
    /// Name of the mesh that is created if there is none on this broker
    #[arg(long, default_value = "home")]
    mesh_name: String,
    /// Where the broker keeps its data ($XDG_DATA_HOME/claudemesh, else ~/.local/share/claudemesh)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs until Ctrl-C.
pub(crate) async fn run(mut context: Context, arguments: UpArgs) -> Result<(), CliError> {
    let data_dir = match &arguments.data_dir {
        Some(dir) => std::path::absolute(dir).map_err(|error| config::private::failed("use", dir, &error))?,
        None => config::default_data_dir()?,
    };
    let host = Host::find_or_start(&data_dir, arguments.port).await?;
    if let Some(old) = host.previous_url() {
        context.config.move_broker(old, host.url())?;
    }
    let result = tokio::select! {
        result = serve(&mut context, &arguments, &host) => result,
        () = signals::stop() => Ok(()),
    };
    context.out.note("Stopping…");
    host.stop().await;
    result
}

async fn serve(context: &mut Context, arguments: &UpArgs, host: &Host) -> Result<(), CliError> {
    let out = context.out;
    let mesh = mesh(context, arguments, host).await?;
    let session = Session::observe(&Context {
        mesh: Some(mesh.slug.clone()),
        ..context.share()
    })
    .await?;
    let link = enrol::invite(&context.config, &session.mesh, &enrol::Terms::default()).await?;
    out.json_line(&serde_json::json!({
        "event": "ready", "url": host.url(), "dataDir": host.data_dir(), "started": host.is_mine(),
        "mesh": mesh, "invite": link,
    }))?;
    introduce(context, host, &mesh, &link);
    let mut watch = watch::Watch::start(out, &session).await?;
    if arguments.demo {
        let cast = demo::Cast::join(context, host, &session.mesh).await?;
        cast.clients().for_each(|client| watch.follow(client));
        tokio::select! {
            result = watch.run() => result,
            result = cast.play(out) => result,
        }
    } else {
        watch.run().await
    }
}

/// The mesh on this broker: the one that was asked for, the first that was joined, or a new one.
async fn mesh(context: &mut Context, arguments: &UpArgs, host: &Host) -> Result<Enrolled, CliError> {
    let here = |entry: &&config::MeshEntry| entry.broker_url == host.url();
    let found = match &context.mesh {
        Some(slug) => Some(context.config.mesh(Some(slug))?).filter(here),
        None => context.config.meshes().iter().find(here),
    };
    if let Some(entry) = found {
        return Ok(Enrolled::of(entry));
    }
    let name = enrol::person(&context.config, arguments.name.clone());
    enrol::create(&mut context.config, host.url(), &arguments.mesh_name, &name).await
}

/// What to do next, with commands to copy.
fn introduce(context: &Context, host: &Host, mesh: &Enrolled, link: &enrol::Invitation) {
    let out = context.out;
    let state = if host.is_mine() { "started" } else { "already runs" };
    out.line(format!(
        "broker  {} ({state}), data in {}",
        out.paint(Style::Bold, host.url()),
        host.data_dir().display()
    ));
    out.line(format!(
        "mesh    {} ({})",
        out.paint(Style::Bold, &mesh.slug),
        mesh.name
    ));
    out.line(format!("invite  {}", link.url));
    out.note(out.paint(
        Style::Dim,
        "        whoever has this link can join; it works on this machine only",
    ));
    out.note("\nTry it in a second terminal, as another person:");
    out.note(format!("  export CLAUDEMESH_CONFIG_DIR={}", second_home(host)));
    out.note(format!("  claudemesh join '{}' --name guest", link.url));
    out.note(format!("  claudemesh send {} hello", whoami(context, mesh)));
    out.note("\nIn this mesh now (Ctrl-C ends):");
}

/// A configuration directory for a second person on this machine.
fn second_home(host: &Host) -> String {
    let path = host.data_dir().join("guest");
    format!("'{}'", path.display())
}

fn whoami(context: &Context, mesh: &Enrolled) -> String {
    mesh.display_name
        .clone()
        .or_else(|| context.config.display_name())
        .unwrap_or_else(|| "'*'".to_owned())
}

/// Prints one line of what happens.
fn say(out: Output, what: &str, style: Style, text: &str) {
    let now = crate::text::local_time(crate::text::now());
    out.line(format!(
        "{}  {}  {text}",
        out.paint(Style::Dim, now),
        out.paint(style, format!("{what:<9}"))
    ));
}
