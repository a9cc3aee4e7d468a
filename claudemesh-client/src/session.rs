//! What the program set for its session, to be set again after a reconnect: every connection is a new session to the
//! broker.

use crate::pending::lock;
use claudemesh_proto::hello::HelloAck;
use claudemesh_proto::model::{Group, PeerStatus};
use claudemesh_proto::ops::{JoinGroup, LeaveGroup, SetStatus, SetSummary, SetVisible};
use std::any::Any;
use std::sync::Mutex;

/// What is known of the session's own settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Groups; `None` until the program or the broker named some.
    pub(crate) groups: Option<Vec<Group>>,
    pub(crate) summary: Option<String>,
    pub(crate) status: Option<PeerStatus>,
    pub(crate) visible: Option<bool>,
}

/// The session's settings, kept over reconnects.
#[derive(Default)]
pub(crate) struct SessionMemory {
    settings: Mutex<Settings>,
}

impl SessionMemory {
    pub(crate) fn new(groups: Vec<Group>, visible: Option<bool>) -> Self {
        let groups = (!groups.is_empty()).then_some(groups);
        Self {
            settings: Mutex::new(Settings {
                groups,
                visible,
                ..Settings::default()
            }),
        }
    }

    pub(crate) fn snapshot(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// Takes over what the broker restored, as far as the program has set nothing else.
    pub(crate) fn restored(&self, ack: &HelloAck) {
        let mut settings = lock(&self.settings);
        if settings.groups.is_none() {
            settings.groups = Some(ack.restored_groups.clone());
        }
    }

    /// Notes a request that the broker has carried out.
    pub(crate) fn remember(&self, request: &dyn Any) {
        let mut settings = lock(&self.settings);
        if let Some(request) = request.downcast_ref::<JoinGroup>() {
            let groups = settings.groups.get_or_insert_default();
            let group = Group {
                name: request.name.clone(),
                role: request.role.clone(),
            };
            match groups.iter_mut().find(|known| known.name == group.name) {
                Some(known) => *known = group,
                None => groups.push(group),
            }
        } else if let Some(request) = request.downcast_ref::<LeaveGroup>() {
            settings
                .groups
                .get_or_insert_default()
                .retain(|group| group.name != request.name);
        } else if let Some(request) = request.downcast_ref::<SetSummary>() {
            settings.summary = Some(request.summary.clone());
        } else if let Some(request) = request.downcast_ref::<SetStatus>() {
            settings.status = Some(request.status);
        } else if let Some(request) = request.downcast_ref::<SetVisible>() {
            settings.visible = Some(request.visible);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claudemesh_proto::model::GroupName;

    #[test]
    fn the_last_word_counts() {
        let memory = SessionMemory::new(Vec::new(), None);
        let name = GroupName::new("backend");
        memory.remember(&JoinGroup {
            name: name.clone(),
            role: None,
        });
        memory.remember(&JoinGroup {
            name: name.clone(),
            role: Some("lead".to_owned()),
        });
        memory.remember(&SetStatus {
            status: PeerStatus::Dnd,
        });
        memory.remember(&SetVisible { visible: false });
        let settings = memory.snapshot();
        assert_eq!(
            settings.groups.unwrap(),
            [Group {
                name: name.clone(),
                role: Some("lead".to_owned())
            }]
        );
        assert_eq!(
            (settings.status, settings.visible),
            (Some(PeerStatus::Dnd), Some(false))
        );
        memory.remember(&LeaveGroup { name });
        assert_eq!(memory.snapshot().groups, Some(Vec::new()));
    }
}
