//! Targets of messages and the labels of their keys.

use super::group_error::group_error;
use crate::ClientError;
use claudemesh_crypto::group::Label;
use claudemesh_proto::model::{GroupName, Target, TargetKind};
use claudemesh_proto::tools::MessageKind;

/// The label of `@group`, `@all` or `*`.
pub(super) fn label_of(target_spec: &str) -> Result<Label, ClientError> {
    if matches!(target_spec, "*" | "@all") {
        return Ok(Label::all());
    }
    let Some(name) = target_spec.strip_prefix('@') else {
        return Err(ClientError::invalid("targetSpec", "is neither @group, @all nor *"));
    };
    Label::group(GroupName::new(name).as_str()).map_err(|refusal| group_error(refusal.into()))
}

/// Group or broadcast, as the label says.
pub(super) fn kind_of(label: &Label) -> MessageKind {
    if *label == Label::all() {
        MessageKind::Broadcast
    } else {
        MessageKind::Group
    }
}

/// What the broker says that it is.
pub(super) fn claimed_kind(target: Option<&Target>) -> Option<MessageKind> {
    target.map(|target| match target.kind {
        TargetKind::Direct => MessageKind::Direct,
        TargetKind::Group => MessageKind::Group,
        TargetKind::Broadcast => MessageKind::Broadcast,
    })
}
