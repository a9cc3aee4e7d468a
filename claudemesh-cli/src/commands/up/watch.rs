//! What happens in a mesh, line by line: from its audit log and from receipts.

use super::say;
use crate::CliError;
use crate::commands::ladder;
use crate::commands::session::Session;
use crate::output::{Output, Style, one_line, short};
use claudemesh_client::{ClientEvent, EventStream, MeshClient};
use claudemesh_proto::model::Receipt;
use claudemesh_proto::ops::{AuditEntry, AuditQuery, GetState, ListMembers, ListPeers};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// How often the audit log is read.
const POLL: Duration = Duration::from_millis(600);
/// Most entries that are read at once.
const PAGE: u32 = 100;

/// Watches one mesh as an observer: it takes nobody's mail, and nobody sees it.
pub(super) struct Watch<'a> {
    out: Output,
    session: &'a Session,
    last_entry: i64,
    names: HashMap<String, String>,
    events: mpsc::Receiver<ClientEvent>,
    sender: mpsc::Sender<ClientEvent>,
}

impl<'a> Watch<'a> {
    /// Shows who is here, and starts after the newest entry.
    pub(super) async fn start(out: Output, session: &'a Session) -> Result<Self, CliError> {
        let newest = session
            .call(AuditQuery {
                limit: Some(1),
                ..AuditQuery::default()
            })
            .await?;
        let (sender, events) = mpsc::channel(256);
        let mut watch = Self {
            out,
            session,
            last_entry: newest.entries.first().map_or(0, |entry| entry.id),
            names: HashMap::new(),
            events,
            sender,
        };
        watch.learn_names().await?;
        watch.follow(&session.client);
        for peer in session.call(ListPeers {}).await?.peers {
            say(out, "here", Style::Good, &one_line(&peer.display_name));
        }
        Ok(watch)
    }

    /// Shows receipts that this client gets, too: only senders get them.
    pub(super) fn follow(&self, client: &MeshClient) {
        tokio::spawn(forward(client.events(), self.sender.clone()));
    }

    /// Shows what happens until the connection ends for good.
    pub(super) async fn run(&mut self) -> Result<(), CliError> {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Entries first: a message is shown before its receipts.
                biased;
                _ = ticks.tick() => self.poll().await?,
                event = self.events.recv() => match event {
                    Some(ClientEvent::Receipt(receipt)) => {
                        self.poll().await?;
                        self.receipt(&receipt)?;
                    }
                    Some(ClientEvent::Connection(state)) if state.is_closed() => return Ok(()),
                    Some(_) => {}
                    None => return Ok(()),
                },
            }
        }
    }

    async fn poll(&mut self) -> Result<(), CliError> {
        let query = AuditQuery {
            limit: Some(PAGE),
            ..AuditQuery::default()
        };
        let page = match self.session.client.audit_query(query).await {
            Ok(page) => page,
            // The connection comes back by itself; what happened meanwhile is in the log.
            Err(error) if error.retryable() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let last = self.last_entry;
        for entry in page.entries.iter().filter(|entry| entry.id > last).rev() {
            self.last_entry = self.last_entry.max(entry.id);
            self.entry(entry).await?;
        }
        Ok(())
    }

    async fn entry(&mut self, entry: &AuditEntry) -> Result<(), CliError> {
        self.out.json_line(&serde_json::json!({
            "event": entry.event_type, "actor": entry.actor, "payload": entry.payload, "at": entry.created_at,
        }))?;
        let actor = one_line(&entry.actor);
        let fact = |name: &str| {
            entry
                .payload
                .get(name)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        let (what, style, text) = match entry.event_type.as_str() {
            "peer_joined" => {
                self.learn_names().await?;
                ("joined", Style::Good, format!("{actor} {}", short(fact("pubkey"))))
            }
            "peer_left" => ("left", Style::Dim, actor),
            "message_sent" => {
                let to = self.name(fact("targetSpec")).await?;
                (
                    "message",
                    Style::Bold,
                    format!("{actor} → {to}  {}  accepted", fact("priority")),
                )
            }
            "state_set" => {
                let key = fact("key");
                let value = self.value(key).await;
                ("state", Style::Warn, format!("{} = {value}  by {actor}", one_line(key)))
            }
            "member_joined" => ("member", Style::Good, format!("{actor} has joined the mesh")),
            "member_removed" => ("member", Style::Bad, format!("removed by {actor}")),
            "invite_created" => ("invite", Style::Dim, format!("made by {actor}")),
            "group_commit" => (
                "keys",
                Style::Dim,
                format!("changed by {actor}, epoch {}", entry.payload["epoch"]),
            ),
            "state_deleted" => (
                "state",
                Style::Warn,
                format!("{} removed by {actor}", one_line(fact("key"))),
            ),
            other => (
                other,
                Style::Dim,
                format!("{actor} {}", one_line(&entry.payload.to_string())),
            ),
        };
        say(self.out, what, style, &text);
        Ok(())
    }

    fn receipt(&self, receipt: &Receipt) -> Result<(), CliError> {
        self.out
            .json_line(&serde_json::json!({ "event": "receipt", "receipt": receipt }))?;
        let stage = self.out.paint(ladder::style(receipt.stage), receipt.stage.as_str());
        let note = [receipt.adapter.as_ref(), receipt.reason.as_ref()]
            .into_iter()
            .flatten()
            .map(|text| one_line(text));
        let note: Vec<String> = note.collect();
        let note = if note.is_empty() {
            String::new()
        } else {
            format!(" ({})", note.join(", "))
        };
        let id = receipt.message_id.as_str();
        let id = self.out.paint(Style::Dim, id.get(..8).unwrap_or(id));
        say(
            self.out,
            "receipt",
            Style::Dim,
            &format!("{id}  {}: {stage}{note}", one_line(&receipt.name)),
        );
        Ok(())
    }

    /// How a target is called: groups as they are, keys by the member's name.
    async fn name(&mut self, target: &str) -> Result<String, CliError> {
        if target.len() == 64 && !self.names.contains_key(target) {
            self.learn_names().await?;
        }
        Ok(one_line(self.names.get(target).map_or(target, String::as_str)))
    }

    async fn learn_names(&mut self) -> Result<(), CliError> {
        let members = self.session.call(ListMembers {}).await?.members;
        self.names = members
            .into_iter()
            .map(|member| (member.pubkey.to_string(), member.display_name))
            .collect();
        Ok(())
    }

    /// The value of a key now, if it may be read.
    async fn value(&self, key: &str) -> String {
        let result = self.session.client.get_state(GetState { key: key.to_owned() }).await;
        let text = result
            .map(|found| crate::text::show_value(&found.value))
            .unwrap_or_default();
        let mut shown: String = one_line(&text).chars().take(60).collect();
        if shown.len() < text.len() && text.chars().count() > 60 {
            shown.push('…');
        }
        shown
    }
}

async fn forward(mut events: EventStream, to: mpsc::Sender<ClientEvent>) {
    while let Some(event) = events.next().await {
        if to.send(event).await.is_err() {
            return;
        }
    }
}
