//! Enumerations as they are stored.

use crate::store::StoreError;
use claudemesh_proto::model::{DeliveryStage, Priority, TargetKind};

pub(in crate::store) const fn stage_number(stage: DeliveryStage) -> i64 {
    match stage {
        DeliveryStage::Accepted => 0,
        DeliveryStage::Delivered => 1,
        DeliveryStage::Surfaced => 2,
        DeliveryStage::Read => 3,
        DeliveryStage::Expired => 4,
        DeliveryStage::Refused => 5,
        DeliveryStage::Revoked => 6,
    }
}

pub(super) fn stage_of(number: i64) -> Result<DeliveryStage, StoreError> {
    Ok(match number {
        0 => DeliveryStage::Accepted,
        1 => DeliveryStage::Delivered,
        2 => DeliveryStage::Surfaced,
        3 => DeliveryStage::Read,
        4 => DeliveryStage::Expired,
        5 => DeliveryStage::Refused,
        6 => DeliveryStage::Revoked,
        _ => return Err(StoreError::Corrupt("column stage holds an unknown number".into())),
    })
}

pub(in crate::store) const fn priority_number(priority: Priority) -> i64 {
    match priority {
        Priority::Now => 0,
        Priority::Next => 1,
        Priority::Low => 2,
    }
}

pub(super) fn priority_of(number: i64) -> Result<Priority, StoreError> {
    match number {
        0 => Ok(Priority::Now),
        1 => Ok(Priority::Next),
        2 => Ok(Priority::Low),
        _ => Err(StoreError::Corrupt("column priority holds an unknown number".into())),
    }
}

pub(in crate::store) const fn kind_number(kind: TargetKind) -> i64 {
    match kind {
        TargetKind::Direct => 0,
        TargetKind::Group => 1,
        TargetKind::Broadcast => 2,
    }
}

pub(super) fn kind_of(number: i64) -> Result<TargetKind, StoreError> {
    match number {
        0 => Ok(TargetKind::Direct),
        1 => Ok(TargetKind::Group),
        2 => Ok(TargetKind::Broadcast),
        _ => Err(StoreError::Corrupt("column target_kind holds an unknown number".into())),
    }
}
