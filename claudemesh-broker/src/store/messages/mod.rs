//! Messages and their deliveries, one per recipient.

mod end;
mod insert;
mod numbers;
mod read;
mod rows;
mod stages;

pub(super) use end::end_pending;
pub(super) use insert::insert_messages;
pub(super) use numbers::{kind_number, priority_number, stage_number};
pub use read::PENDING_SQL;
pub(super) use rows::Numbering;
pub use rows::{
    DeliveryPlace, DeliveryRow, EndedDelivery, MessageOutcome, MessageRow, NewMessage, Recipient, RecipientRow,
    StageChange, StageOutcome, StoredMessage,
};
pub(super) use stages::{apply_stages, apply_stages_in_the_hope};

/// Most rows of one statement; 64 × 19 and 128 × 11 parameters are far below the limits of both engines.
const MESSAGE_ROWS: usize = 64;
const DELIVERY_ROWS: usize = 128;
