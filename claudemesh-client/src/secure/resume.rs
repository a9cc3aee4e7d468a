//! Numbers of a session that goes on after a restart.

use super::channel::SecureChannel;
use claudemesh_proto::model::Priority;
use claudemesh_proto::ops::SendEnvelope;

impl SecureChannel {
    /// Goes on after the last numbers that this session used for each recipient or label. A receiver takes a number that
    /// comes twice for a replay.
    pub(crate) fn resume_numbers(&self, numbers: impl IntoIterator<Item = (String, Priority, u64)>) {
        let mut lanes = self.lanes();
        for (lane, priority, number) in numbers {
            lanes.resume(lane, priority.as_str(), number);
        }
    }

    /// The number of a message of this session that was sealed last, or a later one.
    pub(crate) fn number_of(&self, envelope: &SendEnvelope) -> u64 {
        match &envelope.sealed {
            Some(seal) => seal.seq,
            None => self
                .lanes()
                .peek(&envelope.target_spec, envelope.priority.as_str())
                .saturating_sub(1),
        }
    }
}
