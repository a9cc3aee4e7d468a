//! Two scripted peers, for a first look: real members with their own keys, on the real broker.

use super::host::Host;
use crate::commands::Context;
use crate::commands::enrol;
use crate::commands::session::builder;
use crate::config::{MeshEntry, private};
use crate::output::Output;
use crate::{CliError, Config};
use claudemesh_client::{MeshClient, Message};
use claudemesh_proto::model::Priority;
use claudemesh_proto::ops::SetSummary;
use claudemesh_proto::tools::MessageKind;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// Pauses of somebody who reads and thinks, so that each step can be seen.
const BEAT: Duration = Duration::from_millis(700);
/// What the receipts of the two say.
const ADAPTER: &str = "demo";

/// Ana and Ben.
pub(super) struct Cast {
    ana: MeshClient,
    ben: MeshClient,
}

impl Cast {
    /// Lets both join with an invite (or come back with their keys of an earlier run) and connects them.
    pub(super) async fn join(context: &Context, host: &Host, mesh: &MeshEntry) -> Result<Self, CliError> {
        let home = host.data_dir().join("demo");
        private::create_dir(&home)?;
        let ana = actor(context, mesh, &home, "ana", "reviews the parser").await?;
        let ben = actor(context, mesh, &home, "ben", "fixes the build").await?;
        Ok(Self { ana, ben })
    }

    /// Both connections.
    pub(super) fn clients(&self) -> impl Iterator<Item = &MeshClient> {
        [&self.ana, &self.ben].into_iter()
    }

    /// One exchange between the two, then answers to everybody else, without end.
    pub(super) async fn play(&self, out: Output) -> Result<(), CliError> {
        let own = [self.ana.identity().key_hex(), self.ben.identity().key_hex()];
        let open = async {
            sleep(BEAT).await;
            self.ana
                .send_text(own[1].as_str(), "Ben, is the build green?", Priority::Next)
                .await?;
            Ok::<_, CliError>(())
        };
        let ana = perform(&self.ana, &own);
        let ben = perform(&self.ben, &own);
        let tip = async {
            sleep(BEAT * 7).await;
            out.note(
                "\n  → in a second terminal: claudemesh send ana \"hello\" --wait read; claudemesh inbox --wait 10\n",
            );
            Ok(())
        };
        tokio::try_join!(open, tip, ana, ben).map(|_| ())
    }
}

/// A member with a configuration directory of its own.
async fn actor(
    context: &Context,
    mesh: &MeshEntry,
    home: &Path,
    name: &str,
    summary: &str,
) -> Result<MeshClient, CliError> {
    let mut config = Config::open_at(home.join(name))?;
    if !config.meshes().iter().any(|known| known.mesh_id == mesh.mesh_id) {
        let terms = enrol::Terms {
            uses: 1,
            ..enrol::Terms::default()
        };
        let invitation = enrol::invite(&context.config, mesh, &terms).await?;
        enrol::join(&mut config, &invitation.url, name).await?;
    }
    config.move_broker_of(&mesh.mesh_id, &mesh.broker_url)?;
    let entry = config
        .meshes()
        .iter()
        .find(|known| known.mesh_id == mesh.mesh_id)
        .cloned();
    let entry = entry.ok_or_else(|| CliError::local("The demo peer was not stored.", "Report it."))?;
    let client = builder(&config, config.identity(&entry)?)
        .display_name(name)
        .peer_type("ai")
        .channel("demo");
    let client = client.connect().await?;
    client
        .set_summary(SetSummary {
            summary: summary.to_owned(),
        })
        .await?;
    Ok(client)
}

/// Reads and answers what comes.
async fn perform(me: &MeshClient, cast: &[claudemesh_proto::model::KeyHex]) -> Result<(), CliError> {
    while let Some(message) = me.recv().await {
        sleep(BEAT).await;
        message.ack_surfaced(ADAPTER);
        sleep(BEAT).await;
        message.ack_read();
        if let Some((to, text)) = answer(&message, cast) {
            sleep(BEAT).await;
            me.send_text(&to, &text, Priority::Next).await?;
        }
    }
    Ok(())
}

/// Whom to answer, and what. The two stop after question and answer.
fn answer(message: &Message, cast: &[claudemesh_proto::model::KeyHex]) -> Option<(String, String)> {
    let from = message.from_pubkey.as_ref()?;
    let text = message.text.as_deref()?;
    if message.kind == MessageKind::Event {
        return None;
    }
    let reply = if cast.contains(from) {
        text.ends_with('?')
            .then(|| "Green since ten minutes ago; I am on the release notes.".to_owned())?
    } else {
        let quoted: String = text.chars().take(80).collect();
        format!("Got it, {}: “{quoted}”", message.from)
    };
    Some((from.to_string(), reply))
}
