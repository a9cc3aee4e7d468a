//! `up`: a broker and a mesh on this machine, and a view of what happens.

mod demo;
mod host;
mod watch;

use super::enrol::{self, Enrolled};
use super::session::Session;
use super::{Context, signals};
use crate::output::{Output, Style, printable};
use crate::{CliError, config};
use claudemesh_crypto::group::HistoryPolicy;
use claudemesh_proto::ErrorCode;
use host::Host;
use std::path::PathBuf;

/// Starts a broker on this machine (or finds the one that runs), creates a mesh if you have none, prints an invite link,
/// and shows joins, messages and state changes until Ctrl-C.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh up\n  claudemesh up --demo          # with two peers, ana and ben\n  \
    claudemesh up --port 8080 --name kai --mesh-name team\n\n\
    JSON: first {\"event\":\"ready\",\"url\",\"dataDir\",\"started\":bool,\"mesh\":{…},\"invite\":{…}|null}, then one\n\
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
    if result.is_ok() {
        context.out.note("Stopping…");
    }
    host.stop().await;
    result
}

async fn serve(context: &mut Context, arguments: &UpArgs, host: &Host) -> Result<(), CliError> {
    let out = context.out;
    let mesh = mesh(context, arguments, host).await?;
    let chosen = Context {
        mesh: Some(mesh.slug.clone()),
        ..context.share()
    };
    let session = Session::observe(&chosen)
        .await
        .map_err(|error| stranger(error, host, &mesh))?;
    let link = match enrol::invite(&context.config, &session.mesh, &enrol::Terms::default()).await {
        Ok(link) => Some(link),
        // Members who may not invite can watch all the same.
        Err(error) if error.code() == ErrorCode::Forbidden.as_str() => None,
        Err(error) => return Err(error),
    };
    out.json_line(&serde_json::json!({
        "event": "ready", "url": host.url(), "dataDir": host.data_dir(), "started": host.is_mine(),
        "mesh": mesh, "invite": link,
    }))?;
    introduce(out, host, &session, link.as_ref());
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
        Some(slug) => {
            let named = context.config.mesh(Some(slug))?;
            let elsewhere = || {
                CliError::usage(
                    format!("The mesh {slug} is on another broker: {}.", named.broker_url),
                    "Leave --mesh out, or watch that mesh where its broker runs.",
                )
            };
            Some(Some(named).filter(here).ok_or_else(elsewhere)?)
        }
        None => context.config.meshes().iter().find(here),
    };
    if let Some(entry) = found {
        return Ok(Enrolled::of(entry));
    }
    let name = enrol::person(&context.config, arguments.name.clone());
    let history = HistoryPolicy::All;
    enrol::create(&mut context.config, host.url(), &arguments.mesh_name, &name, history).await
}

/// A broker that does not know a stored member most likely lost its data.
fn stranger(error: CliError, host: &Host, mesh: &Enrolled) -> CliError {
    if error.code() != ErrorCode::Unauthorized.as_str() {
        return error;
    }
    let (slug, data) = (&mesh.slug, host.data_dir().display());
    error.next(format!(
        "The broker's data in {data} has no such member. Use the --data-dir that {slug} was made in, or forget it: `claudemesh leave {slug} --yes`."
    ))
}

/// What to do next, with commands to copy.
fn introduce(out: Output, host: &Host, session: &Session, link: Option<&enrol::Invitation>) {
    let state = if host.is_mine() { "started" } else { "already runs" };
    let (url, data) = (out.paint(Style::Bold, host.url()), host.data_dir().display());
    out.line(format!("broker  {url} ({state}), data in {data}"));
    let name = printable(&session.mesh.name);
    out.line(format!(
        "mesh    {} ({name})",
        out.paint(Style::Bold, &session.mesh.slug)
    ));
    if let Some(link) = link {
        let remark = "        whoever has this link can join; it works on this machine only";
        out.line(format!("invite  {}", link.url));
        out.note(out.paint(Style::Dim, remark));
        out.note("\nTry it in a second terminal, as another person:");
        out.note(format!(
            "  export CLAUDEMESH_CONFIG_DIR='{}'",
            host.data_dir().join("guest").display()
        ));
        out.note(format!("  claudemesh join '{}' --name guest", link.url));
        let me = session.client.hello().map(|hello| hello.member_display_name.clone());
        out.note(format!(
            "  claudemesh send '{}' hello",
            printable(&me.unwrap_or_else(|| "*".to_owned()))
        ));
    }
    out.note("\nIn this mesh now (Ctrl-C ends):");
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
