//! Heads of the group log in their three written forms.

use claudemesh_crypto::MetaHead;
use claudemesh_crypto::group::Head;
use claudemesh_proto::model::{EpochHead, HexHash};

/// The form of the wire.
pub(super) fn to_wire(head: &Head) -> EpochHead {
    EpochHead {
        generation: head.generation,
        index: head.index,
        epoch: head.epoch,
        hash: HexHash(head.hash.to_string()),
    }
}

/// The form inside direct messages.
pub(super) fn to_meta(head: &Head) -> MetaHead {
    MetaHead {
        generation: head.generation,
        epoch: head.epoch,
        index: head.index,
        hash: head.hash.to_string(),
    }
}

/// Reads the form of the wire; `None` if the hash is none.
pub(super) fn from_wire(head: &EpochHead) -> Option<Head> {
    let hash = head.hash.as_str().parse().ok()?;
    Some(Head {
        generation: head.generation,
        index: head.index,
        epoch: head.epoch,
        hash,
    })
}

/// Reads the form inside direct messages; `None` if the hash is none.
pub(super) fn from_meta(head: &MetaHead) -> Option<Head> {
    let hash = head.hash.parse().ok()?;
    Some(Head {
        generation: head.generation,
        index: head.index,
        epoch: head.epoch,
        hash,
    })
}
