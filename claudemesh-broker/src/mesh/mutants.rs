//! Faults for the simulation to find: `mutant!(Name)` is true while the simulation makes this fault, one at a time and in
//! the crate's own tests only. Everywhere else it is the constant `false`: the broker has no such switch.

#[cfg(not(test))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

#[cfg(test)]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mesh::mutants::Mutant::$name.is_made()
    };
}

#[cfg(test)]
macro_rules! mutants {
    ($($name:ident: $what:literal,)*) => {
        /// A fault in the core.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Mutant {
            $(#[doc = $what] $name,)*
        }

        impl Mutant {
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// What is wrong.
            pub(super) fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }
        }
    };
}

#[cfg(test)]
mutants! {
    AckOnlyFirst: "of a batch of acknowledgements only the first is taken",
    BroadcastToHidden: "hidden sessions get what is for everybody",
    EmptyGrantIsDefault: "whoever is blocked counts as whoever has no entry",
    ForgetAttempts: "deliveries of a message are not counted",
    ForgetGrants: "grants are not checked at delivery",
    ForgetMark: "what a client of protocol 1 got is not marked as delivered",
    ForgetOvertaken: "what was accepted during a read is forgotten",
    ForgetOverMeanwhile: "what was acknowledged during a read is delivered again",
    ForgetSettled: "what is over is not remembered while the store catches up",
    ForgetTtl: "the time of a message is not checked at delivery",
    HookEndsDnd: "a hook ends do-not-disturb",
    IgnoreBusyGate: "busy sessions are interrupted",
    IgnoreGroups: "a session outside of the group gets its messages",
    IgnoreHint: "the session that the sender prefers is not preferred",
    KeepRemoved: "a removed member's queue stays",
    LoseOnClose: "what a session had when it closed is lost",
    NoWindow: "a session gets more than it may have under lease",
    NotReadAfterFailure: "after a failed read the store is not read again",
    Overtake: "a message that has to wait is overtaken by the sender's next",
    PushToObservers: "one-shot connections get mail that nobody asked for",
    SkipLeases: "leases do not end",
    TakeInAhead: "what was just accepted overtakes what is still in the store",
    WallClock: "leases and statuses go by the wall clock",
    WorkingForEver: "a status that nobody confirms does not end",
}

#[cfg(test)]
thread_local! {
    static MADE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
impl Mutant {
    pub(super) fn is_made(self) -> bool {
        MADE.get() == Some(self)
    }

    /// Makes this fault in this thread from now on; `None` ends it.
    pub(super) fn make(mutant: Option<Self>) {
        MADE.set(mutant);
    }
}
