//! Faults in the rules around the core, which the simulation models: what the broker, the store and the client do with
//! what the core decides. Those in the core itself are in `src/mesh/mutants.rs`.

/// One fault. At most one is made at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The broker answers `send` before the commit.
    AcknowledgeEarly,
    /// The broker delivers before the commit.
    DeliverEarly,
    /// The broker does not write a mark again after a failed commit.
    ForgetMarks,
    /// The broker does not look again what is stored after a commit looked failed.
    NotReadAgain,
    /// The broker keeps a refusal or an end to itself.
    ForgetEnds,
    /// The store stores a message with a known id once more.
    StoreTwice,
    /// A step of a delivery may go back in the store.
    StepBack,
    /// The client does not remember what it gave to the program.
    ForgetTaken,
    /// The client gives out what it may not have any more.
    IgnoreLoan,
    /// The client gives out what comes after something that it had to drop.
    JumpGap,
}

impl Fault {
    pub const ALL: [Self; 10] = [
        Self::AcknowledgeEarly,
        Self::DeliverEarly,
        Self::ForgetMarks,
        Self::NotReadAgain,
        Self::ForgetEnds,
        Self::StoreTwice,
        Self::StepBack,
        Self::ForgetTaken,
        Self::IgnoreLoan,
        Self::JumpGap,
    ];

    /// Where it is, and what is wrong.
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::AcknowledgeEarly => ("broker (model)", "a send is acknowledged before its commit"),
            Self::DeliverEarly => ("broker (model)", "a message is delivered before its commit"),
            Self::ForgetMarks => ("broker (model)", "a mark whose commit failed is not written again"),
            Self::NotReadAgain => (
                "broker (model)",
                "after a commit that looked failed the store is not read again",
            ),
            Self::ForgetEnds => ("broker (model)", "the end of a delivery is not written"),
            Self::StoreTwice => ("store (model)", "a message sent again under its id is stored again"),
            Self::StepBack => ("store (model)", "a delivery may step back"),
            Self::ForgetTaken => ("client (model)", "the client forgets what its program took"),
            Self::IgnoreLoan => ("client (model)", "the client gives out what its lease is over for"),
            Self::JumpGap => (
                "client (model)",
                "the client gives out what follows a message that it dropped",
            ),
        }
    }
}
