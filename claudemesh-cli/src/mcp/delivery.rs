//! Received messages on their way to the model: which are shown, and by what.
//!
//! | mode | messages | events of the mesh |
//! |---|---|---|
//! | push | in full, by the first surface that takes them, else with the next tool result | channel notifications |
//! | inbox | one line that says that there is one; `check_messages` brings the text | none |
//! | off | none: they wait for `check_messages` | none |
//!
//! Nothing is shown before the host has initialised this server.

use super::mail::Mail;
use super::notices;
use super::surface::{Channel, Form, Outcome, Surface};
use claudemesh_client::{ClientEvent, EventStream, MeshClient, Message};
use claudemesh_proto::model::MessageMode;
use std::sync::Arc;
use tokio::sync::watch;

/// The surfaces of an initialised host.
#[derive(Clone)]
pub(super) struct Ladder {
    /// In the order in which they are tried.
    pub(super) surfaces: Vec<Arc<dyn Surface>>,
    /// For events of the mesh, which must not wake the model.
    pub(super) channel: Arc<Channel>,
}

/// Where messages of every mesh are brought in front of the model.
pub(super) struct Desk {
    /// Messages that no surface took, and those that were shown.
    pub(super) mail: Mail,
    ladder: watch::Sender<Option<Ladder>>,
    mode: Option<MessageMode>,
}

impl Desk {
    /// A desk without surfaces. `mode` overrules the profiles of the meshes.
    pub(super) fn new(mode: Option<MessageMode>) -> Self {
        Self {
            mail: Mail::default(),
            ladder: watch::Sender::new(None),
            mode,
        }
    }

    /// Opens the desk: the host is initialised.
    pub(super) fn open(&self, ladder: Ladder) {
        self.ladder.send_replace(Some(ladder));
    }

    /// Brings the messages and events of a mesh to the model until its client is closed.
    pub(super) fn follow(self: &Arc<Self>, client: MeshClient, events: EventStream) {
        let (mode, watched) = watch::channel(self.mode);
        tokio::spawn(self.clone().follow_events(client.clone(), events, mode));
        tokio::spawn(self.clone().follow_messages(client, watched));
    }

    async fn ladder(&self) -> Option<Ladder> {
        let mut ladder = self.ladder.subscribe();
        let opened = ladder.wait_for(Option::is_some).await.ok()?;
        opened.clone()
    }

    async fn follow_events(
        self: Arc<Self>,
        client: MeshClient,
        mut events: EventStream,
        mode: watch::Sender<Option<MessageMode>>,
    ) {
        let follow_profile = || {
            let profile = client.hello().map(|hello| hello.member_profile.message_mode);
            mode.send_if_modified(|mode| std::mem::replace(mode, profile) != profile);
        };
        // It may have connected before anybody listened.
        if client.state().is_open() && self.mode.is_none() {
            follow_profile();
        }
        while let Some(event) = events.next().await {
            let current = *mode.borrow();
            match event {
                ClientEvent::Connection(state) if state.is_open() && self.mode.is_none() => follow_profile(),
                ClientEvent::Message(message) if current == Some(MessageMode::Inbox) => self.point(&message).await,
                ClientEvent::Lagged(_) if current == Some(MessageMode::Inbox) => self.mail.pointed(),
                ClientEvent::Warning(warning) => self.mail.warn(&client.identity().slug, &warning),
                event if current == Some(MessageMode::Push) => self.notify(&client, &event).await,
                _ => {}
            }
        }
    }

    /// Takes messages from the client only while they are to be shown: others wait there.
    async fn follow_messages(self: Arc<Self>, client: MeshClient, mut mode: watch::Receiver<Option<MessageMode>>) {
        let Some(ladder) = self.ladder().await else { return };
        loop {
            if mode.wait_for(|mode| *mode == Some(MessageMode::Push)).await.is_err() {
                return;
            }
            self.mail.room().await;
            tokio::select! {
                biased;
                changed = mode.changed() => if changed.is_err() { return },
                message = client.recv() => match message {
                    Some(message) => self.deliver(&ladder, message).await,
                    None => return,
                },
            }
        }
    }

    async fn deliver(&self, ladder: &Ladder, message: Message) {
        for surface in &ladder.surfaces {
            if surface.surface(&message, Form::Full).await == Outcome::Surfaced {
                return self.mail.shown(message, surface.name());
            }
        }
        self.mail.keep(message);
    }

    async fn point(&self, message: &Message) {
        let Some(ladder) = self.ladder().await else { return };
        for surface in &ladder.surfaces {
            if surface.surface(message, Form::Pointer).await == Outcome::Surfaced {
                return;
            }
        }
        self.mail.pointed();
    }

    async fn notify(&self, client: &MeshClient, event: &ClientEvent) {
        let Some(ladder) = self.ladder.borrow().clone() else {
            return;
        };
        if let Some((content, facts)) = notices::of(client.identity(), event) {
            ladder.channel.notify(content, facts).await;
        }
    }
}
