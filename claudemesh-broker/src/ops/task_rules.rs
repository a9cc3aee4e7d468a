//! Who may do what to a task, and what it then is. Pure: the store calls these between reading and writing a row.

use claudemesh_proto::model::{MemberId, Timestamp};
use claudemesh_proto::ops::TaskStatus;
use claudemesh_proto::{ErrorCode, ErrorFrame};

use crate::store::TaskRow;

/// Who asks, and when.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The member.
    pub(super) member: MemberId,
    /// Its name.
    pub(super) name: String,
    /// Its session: the key, or the id of a session without one.
    pub(super) session: String,
    /// Other connected sessions of the same member.
    pub(super) other_sessions: Vec<String>,
    /// Whether it manages the mesh: the owner and admins.
    pub(super) manages: bool,
    /// Authors whose tasks it may not see.
    pub(super) hidden: Vec<MemberId>,
    /// When it asks.
    pub(super) now: Timestamp,
}

/// `true` if the row was changed.
pub(super) type Decision = Result<bool, ErrorFrame>;

impl Caller {
    fn is(&self, member: Option<&MemberId>) -> bool {
        member == Some(&self.member)
    }

    /// Whether the caller may see the task: its author lets it, or it has a part in it.
    fn sees(&self, row: &TaskRow) -> bool {
        let task = &row.task;
        let has_part = [&task.created_by_id, &task.assignee_id, &task.claimed_by_id]
            .into_iter()
            .any(|member| self.is(member.as_ref()));
        has_part || self.manages || row.author().is_none_or(|author| !self.hidden.contains(author))
    }

    fn check_seen(&self, row: &TaskRow) -> Result<(), ErrorFrame> {
        if self.sees(row) { Ok(()) } else { Err(not_found()) }
    }

    fn may_decide(&self, row: &TaskRow) -> bool {
        self.manages || self.is(row.author())
    }
}

/// There is no such task, as far as the caller may know.
pub(super) fn not_found() -> ErrorFrame {
    let text = "no such task in this mesh: use the whole id that list_tasks shows";
    ErrorFrame::new(ErrorCode::TaskNotFound, text).at("/taskId")
}

fn refused(code: ErrorCode, text: impl Into<String>) -> Decision {
    Err(ErrorFrame::new(code, text).at("/taskId"))
}

fn ended(row: &TaskRow) -> Decision {
    refused(
        ErrorCode::Conflict,
        format!("the task is {} already", row.task.status.as_str()),
    )
}

fn claimer(row: &TaskRow) -> &str {
    row.task.claimed_by.as_deref().unwrap_or("another member")
}

/// Claims an open task, or makes the caller's claim last longer. A claim belongs to one session: another one of the same
/// member takes it over when that session is gone.
pub(super) fn claim(row: &mut TaskRow, caller: &Caller, lease_ms: i64) -> Decision {
    caller.check_seen(row)?;
    let not_claimable = |text: String| refused(ErrorCode::TaskNotClaimable, text);
    match row.task.status {
        TaskStatus::Open => {}
        TaskStatus::Claimed if !caller.is(row.task.claimed_by_id.as_ref()) => {
            return not_claimable(format!("{} has claimed the task", claimer(row)));
        }
        TaskStatus::Claimed => {
            let holder = row.claimed_by_session.as_ref();
            if holder.is_some_and(|holder| caller.other_sessions.contains(holder)) {
                return not_claimable("another session of yours has claimed the task and is connected".to_owned());
            }
        }
        TaskStatus::Done | TaskStatus::Cancelled => {
            return not_claimable(format!("the task is {}", row.task.status.as_str()));
        }
    }
    let task = &mut row.task;
    if task.status == TaskStatus::Open {
        task.claimed_at = Some(caller.now);
    }
    task.status = TaskStatus::Claimed;
    task.claimed_by = Some(caller.name.clone());
    task.claimed_by_id = Some(caller.member.clone());
    task.claim_expires_at = Some(Timestamp::from_ms(caller.now.as_ms().saturating_add(lease_ms)));
    row.claimed_by_session = Some(caller.session.clone());
    Ok(true)
}

/// Opens a claimed task again: whoever has claimed it, the author, who manages the mesh.
pub(super) fn release(row: &mut TaskRow, caller: &Caller) -> Decision {
    caller.check_seen(row)?;
    match row.task.status {
        TaskStatus::Open => Ok(false),
        TaskStatus::Claimed if caller.is(row.task.claimed_by_id.as_ref()) || caller.may_decide(row) => {
            row.open();
            Ok(true)
        }
        TaskStatus::Claimed => refused(
            ErrorCode::Forbidden,
            format!(
                "{} has claimed the task: only they, its author and the mesh's owner and admins may release it",
                claimer(row)
            ),
        ),
        TaskStatus::Done | TaskStatus::Cancelled => ended(row),
    }
}

/// Ends a task as done: whoever has claimed it, the author, who manages the mesh.
pub(super) fn complete(row: &mut TaskRow, caller: &Caller, result: Option<String>) -> Decision {
    caller.check_seen(row)?;
    let is_claimer = caller.is(row.task.claimed_by_id.as_ref());
    match row.task.status {
        // The answer to the first request may have been lost.
        TaskStatus::Done if is_claimer && row.task.result == result => return Ok(false),
        TaskStatus::Done | TaskStatus::Cancelled => return ended(row),
        TaskStatus::Claimed if is_claimer || caller.may_decide(row) => {}
        TaskStatus::Claimed => {
            let text = format!(
                "{} has claimed the task: only they, its author and the mesh's owner and admins may complete it",
                claimer(row)
            );
            return refused(ErrorCode::Forbidden, text);
        }
        TaskStatus::Open if caller.may_decide(row) => {
            row.task.claimed_by = Some(caller.name.clone());
            row.task.claimed_by_id = Some(caller.member.clone());
        }
        TaskStatus::Open => {
            let text = "nobody has claimed the task now (claims end after a time): claim it first";
            return refused(ErrorCode::Conflict, text);
        }
    }
    let task = &mut row.task;
    task.status = TaskStatus::Done;
    task.claim_expires_at = None;
    task.completed_at = Some(caller.now);
    task.result = result;
    Ok(true)
}

/// Ends a task that nobody needs any more: the author, who manages the mesh.
pub(super) fn cancel(row: &mut TaskRow, caller: &Caller, reason: Option<String>) -> Decision {
    caller.check_seen(row)?;
    match row.task.status {
        TaskStatus::Cancelled if caller.may_decide(row) => return Ok(false),
        TaskStatus::Done | TaskStatus::Cancelled => return ended(row),
        TaskStatus::Open | TaskStatus::Claimed if caller.may_decide(row) => {}
        TaskStatus::Open | TaskStatus::Claimed => {
            let text =
                "only the author of the task and the mesh's owner and admins may cancel it; release_task gives it back";
            return refused(ErrorCode::Forbidden, text);
        }
    }
    row.open();
    row.task.status = TaskStatus::Cancelled;
    row.task.completed_at = Some(caller.now);
    row.task.result = reason;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use claudemesh_proto::ops::Task;

    const LEASE: i64 = 1_000;

    fn caller(name: &str) -> Caller {
        Caller {
            member: name.into(),
            name: name.to_owned(),
            session: format!("{name}-1"),
            other_sessions: vec![format!("{name}-2")],
            manages: name == "admin",
            hidden: Vec::new(),
            now: Timestamp::from_ms(5_000),
        }
    }

    fn row() -> TaskRow {
        TaskRow {
            mesh_id: "m".into(),
            claimed_by_session: None,
            task: Task {
                id: "t".to_owned(),
                created_by_id: Some("author".into()),
                ..Task::default()
            },
        }
    }

    fn claimed(by: &str) -> TaskRow {
        let mut row = row();
        assert_eq!(claim(&mut row, &caller(by), LEASE), Ok(true));
        row
    }

    fn code(decision: Decision) -> ErrorCode {
        decision.unwrap_err().code
    }

    #[test]
    fn one_session_claims() {
        let mut row = claimed("ben");
        assert_eq!(row.task.claim_expires_at, Some(Timestamp::from_ms(6_000)));
        assert_eq!(
            code(claim(&mut row, &caller("cara"), LEASE)),
            ErrorCode::TaskNotClaimable
        );
        assert_eq!(
            code(claim(&mut row, &caller("admin"), LEASE)),
            ErrorCode::TaskNotClaimable
        );
        let mut later = caller("ben");
        later.now = Timestamp::from_ms(5_500);
        assert_eq!(claim(&mut row, &later, LEASE), Ok(true), "again, to keep it");
        assert_eq!(row.task.claim_expires_at, Some(Timestamp::from_ms(6_500)));
        assert_eq!(row.task.claimed_at, Some(Timestamp::from_ms(5_000)));
        let mut second = caller("ben");
        second.session = "ben-2".to_owned();
        second.other_sessions = vec!["ben-1".to_owned()];
        assert_eq!(code(claim(&mut row, &second, LEASE)), ErrorCode::TaskNotClaimable);
        second.other_sessions.clear();
        assert_eq!(claim(&mut row, &second, LEASE), Ok(true), "the first session is gone");
    }

    #[test]
    fn who_completes() {
        for (who, expected) in [
            ("ben", Ok(true)),
            ("author", Ok(true)),
            ("admin", Ok(true)),
            ("cara", Err(ErrorCode::Forbidden)),
        ] {
            let decision = complete(&mut claimed("ben"), &caller(who), None);
            assert_eq!(decision.map_err(|error| error.code), expected, "{who}");
        }
        assert_eq!(code(complete(&mut row(), &caller("ben"), None)), ErrorCode::Conflict);
        let mut row = row();
        assert_eq!(complete(&mut row, &caller("author"), None), Ok(true));
        assert_eq!(row.task.claimed_by.as_deref(), Some("author"));
        let mut row = claimed("ben");
        let result = || Some("r".to_owned());
        assert_eq!(complete(&mut row, &caller("ben"), result()), Ok(true));
        assert_eq!(complete(&mut row, &caller("ben"), result()), Ok(false), "repeated");
        assert_eq!(code(complete(&mut row, &caller("ben"), None)), ErrorCode::Conflict);
        assert_eq!(
            code(claim(&mut row, &caller("ben"), LEASE)),
            ErrorCode::TaskNotClaimable
        );
        assert_eq!(code(release(&mut row, &caller("ben"))), ErrorCode::Conflict);
        assert_eq!(code(cancel(&mut row, &caller("admin"), None)), ErrorCode::Conflict);
    }

    #[test]
    fn who_releases_and_cancels() {
        assert_eq!(
            code(release(&mut claimed("ben"), &caller("cara"))),
            ErrorCode::Forbidden
        );
        for who in ["ben", "author", "admin"] {
            let mut row = claimed("ben");
            assert_eq!(release(&mut row, &caller(who)), Ok(true));
            assert_eq!((row.task.status, row.task.claimed_by), (TaskStatus::Open, None));
        }
        for who in ["ben", "cara"] {
            assert_eq!(
                code(cancel(&mut claimed("ben"), &caller(who), None)),
                ErrorCode::Forbidden
            );
        }
        for who in ["author", "admin"] {
            let mut row = claimed("ben");
            assert_eq!(cancel(&mut row, &caller(who), None), Ok(true));
            assert_eq!(cancel(&mut row, &caller(who), None), Ok(false));
            assert_eq!(row.task.status, TaskStatus::Cancelled);
        }
    }

    #[test]
    fn what_is_hidden_does_not_exist() {
        let mut blocked = caller("ben");
        blocked.hidden = vec!["author".into()];
        assert_eq!(code(claim(&mut row(), &blocked, LEASE)), ErrorCode::TaskNotFound);
        let mut mine = claimed("ben");
        assert_eq!(complete(&mut mine, &blocked, None), Ok(true), "it was claimed before");
    }
}
