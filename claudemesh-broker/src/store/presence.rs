//! What the last session of a member left behind, and statuses that wait for a session.

use super::committer::Recorded;
use super::rows::{flag, get, json, text, time, to_json, to_word, word};
use super::{Store, StoreError};
use claudemesh_crypto::random_id;
use claudemesh_proto::model::{Group, MemberId, MeshId, PeerStatus, Profile, Stats, Timestamp};
use sqlx::any::AnyRow;

/// What a member's last session left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStateRow {
    /// The mesh.
    pub mesh_id: MeshId,
    /// The member.
    pub member_id: MemberId,
    /// Its groups.
    pub groups: Vec<Group>,
    /// What it told about itself.
    pub profile: Profile,
    /// Whether it was shown to others.
    pub visible: bool,
    /// What it was working on.
    pub last_summary: Option<String>,
    /// Its name.
    pub last_display_name: Option<String>,
    /// Totals over all sessions.
    pub stats: Stats,
    /// When it left.
    pub last_seen_at: Timestamp,
}

/// A status that came before the session that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingStatus {
    /// The mesh.
    pub mesh_id: MeshId,
    /// Member that reported it.
    pub member_id: MemberId,
    /// Process id of the session; 0 if unknown.
    pub pid: i64,
    /// Working directory of the session.
    pub cwd: String,
    /// Identifier that the host program gave the session.
    pub session_id: Option<String>,
    /// The status.
    pub status: PeerStatus,
    /// When it was reported.
    pub created_at: Timestamp,
}

fn peer_state_row(row: &AnyRow) -> Result<PeerStateRow, StoreError> {
    Ok(PeerStateRow {
        mesh_id: text(row, "mesh_id")?,
        member_id: text(row, "member_id")?,
        groups: json(row, "groups")?,
        profile: json(row, "profile")?,
        visible: flag(row, "visible")?,
        last_summary: get(row, "last_summary")?,
        last_display_name: get(row, "last_display_name")?,
        stats: json(row, "stats")?,
        last_seen_at: time(row, "last_seen_at")?,
    })
}

impl Store {
    /// What the members of a mesh left behind.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn peer_states(&self, mesh: &MeshId) -> Result<Vec<PeerStateRow>, StoreError> {
        sqlx::query("SELECT * FROM peer_state WHERE mesh_id = $1")
            .bind(mesh.as_str())
            .fetch_all(self.pool())
            .await?
            .iter()
            .map(peer_state_row)
            .collect()
    }

    /// Keeps what a member leaves behind, and when it was seen last. `latest` is asked when the row is written, so that of
    /// two saves at once none puts an older state over a newer one; `None` writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such mesh.
    pub async fn save_peer_state<F>(&self, latest: F) -> Result<(), StoreError>
    where
        F: FnOnce() -> Option<PeerStateRow> + Send + 'static,
    {
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let Some(row) = latest() else {
                    return Ok(Recorded::silently(()));
                };
                let (groups, profile, stats) = (to_json(&row.groups)?, to_json(&row.profile)?, to_json(&row.stats)?);
                sqlx::query(
                    "INSERT INTO peer_state (mesh_id, member_id, groups, profile, visible, last_summary, \
                     last_display_name, stats, last_seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                     ON CONFLICT (mesh_id, member_id) DO UPDATE SET groups = excluded.groups, \
                     profile = excluded.profile, visible = excluded.visible, last_summary = excluded.last_summary, \
                     last_display_name = excluded.last_display_name, stats = excluded.stats, \
                     last_seen_at = excluded.last_seen_at",
                )
                .bind(row.mesh_id.as_str())
                .bind(row.member_id.as_str())
                .bind(groups)
                .bind(profile)
                .bind(i64::from(row.visible))
                .bind(row.last_summary.as_deref())
                .bind(row.last_display_name.as_deref())
                .bind(stats)
                .bind(row.last_seen_at.as_ms())
                .execute(&mut *connection)
                .await?;
                sqlx::query("UPDATE member SET last_seen_at = $1 WHERE mesh_id = $2 AND id = $3")
                    .bind(row.last_seen_at.as_ms())
                    .bind(row.mesh_id.as_str())
                    .bind(row.member_id.as_str())
                    .execute(connection)
                    .await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }

    /// Keeps a status for a session that is about to connect.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn insert_pending_status(&self, status: PendingStatus) -> Result<(), StoreError> {
        let word = to_word(&status.status)?;
        self.transaction(None, move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO pending_status (id, mesh_id, member_id, pid, cwd, session_id, status, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(random_id())
                .bind(status.mesh_id.as_str())
                .bind(status.member_id.as_str())
                .bind(status.pid)
                .bind(status.cwd.as_str())
                .bind(status.session_id.as_deref())
                .bind(word)
                .bind(status.created_at.as_ms())
                .execute(connection)
                .await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }

    /// Takes the newest status that was kept for a session since `since`: one with its host identifier, else one with its
    /// directory and process id (or none). All that were kept for the session are gone then.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take_pending_status(
        &self,
        mesh: &MeshId,
        member: &MemberId,
        session_id: &str,
        pid: i64,
        cwd: &str,
        since: Timestamp,
    ) -> Result<Option<PeerStatus>, StoreError> {
        // Seldom is there one: looking costs less than a transaction.
        let any = sqlx::query("SELECT id FROM pending_status WHERE mesh_id = $1 AND member_id = $2 LIMIT 1")
            .bind(mesh.as_str())
            .bind(member.as_str())
            .fetch_optional(self.pool())
            .await?;
        if any.is_none() {
            return Ok(None);
        }
        let (mesh, member) = (mesh.clone(), member.clone());
        let (session_id, cwd) = (session_id.to_owned(), cwd.to_owned());
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "DELETE FROM pending_status WHERE mesh_id = $1 AND member_id = $2 AND created_at >= $3 \
                     AND ((session_id = $4 AND session_id <> '') OR (cwd = $5 AND (pid = $6 OR pid = 0))) \
                     RETURNING status, created_at",
                )
                .bind(mesh.as_str())
                .bind(member.as_str())
                .bind(since.as_ms())
                .bind(session_id.as_str())
                .bind(cwd.as_str())
                .bind(pid)
                .fetch_all(connection)
                .await?;
                let mut newest: Option<(Timestamp, PeerStatus)> = None;
                for row in &rows {
                    let at = time(row, "created_at")?;
                    if newest.is_none_or(|(earlier, _)| earlier <= at) {
                        newest = Some((at, word(row, "status")?));
                    }
                }
                Ok(Recorded::silently(newest.map(|(_, status)| status)))
            })
        })
        .await
    }

    /// Deletes statuses that nobody took before `before`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn sweep_pending_status(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM pending_status WHERE created_at < $1")
                    .bind(before.as_ms())
                    .execute(connection)
                    .await?;
                Ok(Recorded::silently(done.rows_affected()))
            })
        })
        .await
    }
}
