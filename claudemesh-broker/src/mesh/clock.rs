//! The two clocks that the rules go by.

/// The time of an event, by two clocks, both in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the Unix epoch, as people have it. Somebody may set it, so it leaps either way. What is written down and read
    /// in another process goes by it: when a message was accepted, when it expires.
    pub wall_ms: i64,
    /// By a clock that nobody sets, from a start that means nothing outside of this process. What begins and ends here
    /// goes by it: leases, a status that nobody confirms, pauses.
    pub steady_ms: i64,
}

impl Now {
    /// The time that leases and statuses go by.
    pub(super) fn lasting_ms(self) -> i64 {
        if mutant!(WallClock) {
            self.wall_ms
        } else {
            self.steady_ms
        }
    }

    /// Both clocks show the same; for tests.
    #[must_use]
    pub const fn both(ms: i64) -> Self {
        Self {
            wall_ms: ms,
            steady_ms: ms,
        }
    }
}

/// The next time at which something ends, by each clock; `None` if nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// By the wall clock.
    pub wall_ms: Option<i64>,
    /// By the steady clock.
    pub steady_ms: Option<i64>,
}

impl Deadlines {
    /// Whether something ends now.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        let passed = |deadline: Option<i64>, now_ms| deadline.is_some_and(|deadline| deadline <= now_ms);
        passed(self.wall_ms, now.wall_ms) || passed(self.steady_ms, now.lasting_ms())
    }

    pub(super) fn wall(&mut self, at_ms: i64) {
        self.wall_ms = Some(self.wall_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }

    pub(super) fn steady(&mut self, at_ms: i64) {
        self.steady_ms = Some(self.steady_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }

    /// The earlier of each.
    pub(super) fn merge(&mut self, other: Self) {
        other.wall_ms.into_iter().for_each(|at_ms| self.wall(at_ms));
        other.steady_ms.into_iter().for_each(|at_ms| self.steady(at_ms));
    }

    /// Whether `other` has nothing before these.
    pub(super) fn cover(&self, other: Self) -> bool {
        let covers =
            |own: Option<i64>, other: Option<i64>| other.is_none_or(|other| own.is_some_and(|own| own <= other));
        covers(self.wall_ms, other.wall_ms) && covers(self.steady_ms, other.steady_ms)
    }
}
