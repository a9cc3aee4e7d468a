//! `status`: the connection to each mesh, and how far a message has come.

use super::session::Session;
use super::{Context, ladder};
use crate::CliError;
use crate::config::MeshEntry;
use crate::output::{Style, cell, styled};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{MeshInfo, MessageStatus};
use serde::Serialize;
use std::time::Instant;

/// Connects to each joined mesh as a member and measures an answer, or shows how far a message has come.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh status\n  claudemesh status --mesh team --json\n  \
    claudemesh status --message 6c0f…\n\n\
    JSON: {\"version\",\"config\",\"meshes\":[{\"mesh\",\"brokerUrl\",\"ok\",\"connectMs\",\"roundTripMs\",\"error\"}]};\n\
    with --message the result of the tool message_status. Exit code 4 if a mesh does not answer."
)]
pub(crate) struct StatusArgs {
    /// Show how far this message has come: accepted, delivered, surfaced, read
    #[arg(long, value_name = "ID")]
    message: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reachability<'a> {
    mesh: &'a str,
    broker_url: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Checks connections or a message.
pub(crate) async fn run(context: Context, arguments: StatusArgs) -> Result<(), CliError> {
    match arguments.message {
        Some(id) => message(&context, &id).await,
        None => connections(&context).await,
    }
}

async fn connections(context: &Context) -> Result<(), CliError> {
    let meshes: Vec<&MeshEntry> = match &context.mesh {
        Some(slug) => vec![context.config.mesh(Some(slug))?],
        None => context.config.meshes().iter().collect(),
    };
    let mut checked = Vec::new();
    let mut failure = None;
    for mesh in meshes {
        let result = probe(context, mesh).await;
        checked.push(Reachability {
            mesh: &mesh.slug,
            broker_url: &mesh.broker_url,
            ok: result.is_ok(),
            connect_ms: result.as_ref().ok().map(|(connect, _)| *connect),
            round_trip_ms: result.as_ref().ok().map(|(_, answer)| *answer),
            error: result.as_ref().err().map(ToString::to_string),
        });
        failure = failure.or(result.err());
    }
    let out = context.out;
    out.json(&serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"), "config": context.config.path(), "meshes": checked,
    }))?;
    out.note(format!(
        "claudemesh {}, {}",
        env!("CARGO_PKG_VERSION"),
        context.config.path().display()
    ));
    let rows: Vec<_> = checked
        .iter()
        .map(|mesh| {
            let (style, word) = if mesh.ok {
                (Style::Good, "ok")
            } else {
                (Style::Bad, "failed")
            };
            let detail = match (&mesh.error, mesh.connect_ms, mesh.round_trip_ms) {
                (Some(error), ..) => error.clone(),
                (None, Some(connect), Some(answer)) => format!("connected in {connect} ms, answers in {answer:.1} ms"),
                _ => String::new(),
            };
            vec![
                styled(Style::Bold, mesh.mesh),
                styled(style, word),
                cell(mesh.broker_url),
                styled(Style::Dim, detail),
            ]
        })
        .collect();
    out.table(&rows);
    if rows.is_empty() {
        out.line("You have not joined a mesh yet.");
    }
    let Some(failure) = failure else { return Ok(()) };
    let failed = checked.iter().filter(|mesh| !mesh.ok).count();
    Err(failure.about(format!("{failed} of {} meshes cannot be used.", checked.len())))
}

/// Milliseconds to connect and to get an answer.
async fn probe(context: &Context, mesh: &MeshEntry) -> Result<(u64, f64), CliError> {
    let start = Instant::now();
    let session = Session::observe_mesh(context, mesh).await?;
    let connect = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let start = Instant::now();
    let answer = session.call(MeshInfo {}).await;
    let round_trip = (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
    session.close().await;
    answer.map(|_| (connect, round_trip))
}

async fn message(context: &Context, id: &str) -> Result<(), CliError> {
    let meshes: Vec<&MeshEntry> = match &context.mesh {
        Some(slug) => vec![context.config.mesh(Some(slug))?],
        None => context.config.meshes().iter().collect(),
    };
    let mut last = CliError::new(ErrorCode::NotFound, format!("No joined mesh knows a message {id}."))
        .next("Use the id that `claudemesh send` printed.");
    for mesh in meshes {
        let session = Session::observe_mesh(context, mesh).await?;
        let result = session.call(MessageStatus { message_id: id.into() }).await;
        session.close().await;
        match result {
            Ok(status) => return ladder::show(context.out, &status),
            Err(error) if error.code() == ErrorCode::NotFound.as_str() => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}
