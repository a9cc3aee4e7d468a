//! Invites, and joining with them.

use super::committer::Recorded;
use super::members::{MemberRow, NewMember, insert_member_row, live_member};
use super::rows::{count, get, json, text, text_opt, time, time_opt, to_i64, to_json, word};
use super::{AuditEvent, Store, StoreError};
use claudemesh_proto::http::InvitePreset;
use claudemesh_proto::model::{HexSignature, KeyHex, MemberId, MeshId, Role, Timestamp};
use sqlx::any::AnyRow;

/// An invite.
#[derive(Clone, Debug, PartialEq)]
pub struct InviteRow {
    /// Its id.
    pub id: String,
    /// Its mesh.
    pub mesh_id: MeshId,
    /// Its short code.
    pub code: String,
    /// SHA-256 of its token of version 1.
    pub token_hash: Option<String>,
    /// Its signed text.
    pub canonical_v2: String,
    /// Signature of that text.
    pub signature: HexSignature,
    /// Key that made the signature.
    pub issuer_pubkey: KeyHex,
    /// Standing of who joins with it.
    pub role: Role,
    /// How many may join with it.
    pub max_uses: u64,
    /// How many have.
    pub used_count: u64,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Its public key in the group log.
    pub invite_key: Option<KeyHex>,
    /// What who joins with it starts with.
    pub preset: InvitePreset,
    /// Member that made it.
    pub created_by: MemberId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was withdrawn.
    pub revoked_at: Option<Timestamp>,
}

/// An invite to be stored: `used_count` and `revoked_at` are of no account.
pub type NewInvite = InviteRow;

/// What became of an attempt to join.
#[derive(Clone, Debug, PartialEq)]
pub enum InviteUse {
    /// The member is enrolled; the invite has one use less.
    Used,
    /// As many as may have joined with it.
    Exhausted,
    /// Its time is over.
    Expired,
    /// It was withdrawn.
    Revoked,
    /// There is no such invite in the mesh.
    NoSuchInvite,
    /// The key is a member already; the invite was not used.
    AlreadyMember(Box<MemberRow>),
}

fn invite_row(row: &AnyRow) -> Result<InviteRow, StoreError> {
    Ok(InviteRow {
        id: get(row, "id")?,
        mesh_id: text(row, "mesh_id")?,
        code: get(row, "code")?,
        token_hash: get(row, "token_hash")?,
        canonical_v2: get(row, "canonical_v2")?,
        signature: text(row, "signature")?,
        issuer_pubkey: text(row, "issuer_pubkey")?,
        role: word(row, "role")?,
        max_uses: count(row, "max_uses")?,
        used_count: count(row, "used_count")?,
        expires_at: time(row, "expires_at")?,
        invite_key: text_opt(row, "invite_key")?,
        preset: json(row, "preset")?,
        created_by: text(row, "created_by")?,
        created_at: time(row, "created_at")?,
        revoked_at: time_opt(row, "revoked_at")?,
    })
}

impl Store {
    /// Stores an invite.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if its id, code or token is taken.
    pub async fn insert_invite(&self, new: NewInvite, audit: Option<AuditEvent>) -> Result<(), StoreError> {
        let max_uses = to_i64(new.max_uses)?;
        let preset = to_json(&new.preset)?;
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "INSERT INTO invite (id, mesh_id, code, token_hash, canonical_v2, signature, issuer_pubkey, role, \
                     max_uses, used_count, expires_at, invite_key, preset, created_by, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING",
                )
                .bind(new.id.as_str())
                .bind(new.mesh_id.as_str())
                .bind(new.code.as_str())
                .bind(new.token_hash.as_deref())
                .bind(new.canonical_v2.as_str())
                .bind(new.signature.as_str())
                .bind(new.issuer_pubkey.as_str())
                .bind(new.role.as_str())
                .bind(max_uses)
                .bind(new.expires_at.as_ms())
                .bind(new.invite_key.as_ref().map(KeyHex::as_str))
                .bind(preset)
                .bind(new.created_by.as_str())
                .bind(new.created_at.as_ms())
                .execute(connection)
                .await?;
                match done.rows_affected() {
                    0 => Err(StoreError::Conflict(
                        "the id, code or token of the invite is taken".into(),
                    )),
                    _ => Ok(Recorded::audited(())),
                }
            })
        })
        .await
    }

    /// The invite with this code, whatever its condition. Codes are unique over all meshes.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn invite_by_code(&self, code: &str) -> Result<Option<InviteRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM invite WHERE code = $1")
            .bind(code)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(invite_row).transpose()
    }

    /// The invite whose token of version 1 has this SHA-256, whatever its condition.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn invite_by_token_hash(&self, hash: &str) -> Result<Option<InviteRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM invite WHERE token_hash = $1")
            .bind(hash)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(invite_row).transpose()
    }

    /// Invites of a mesh that may still be used, the newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn invites(&self, mesh: &MeshId, now: Timestamp) -> Result<Vec<InviteRow>, StoreError> {
        sqlx::query(
            "SELECT * FROM invite WHERE mesh_id = $1 AND revoked_at IS NULL AND expires_at > $2 \
             AND used_count < max_uses ORDER BY created_at DESC, id",
        )
        .bind(mesh.as_str())
        .bind(now.as_ms())
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(invite_row)
        .collect()
    }

    /// Withdraws an invite, and tells whether it was there and not withdrawn before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn revoke_invite(
        &self,
        mesh: &MeshId,
        invite: &str,
        at: Timestamp,
        audit: Option<AuditEvent>,
    ) -> Result<bool, StoreError> {
        let (mesh, invite) = (mesh.clone(), invite.to_owned());
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE invite SET revoked_at = $1 WHERE mesh_id = $2 AND id = $3 AND revoked_at IS NULL",
                )
                .bind(at.as_ms())
                .bind(mesh.as_str())
                .bind(invite.as_str())
                .execute(connection)
                .await?;
                let changed = done.rows_affected() > 0;
                Ok(Recorded {
                    value: changed,
                    audit: changed,
                })
            })
        })
        .await
    }

    /// Takes one use of an invite and enrols the member, both or none. The invite must be of the member's mesh.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn use_invite_and_insert_member(
        &self,
        invite: &str,
        member: NewMember,
        now: Timestamp,
        audit: Option<AuditEvent>,
    ) -> Result<InviteUse, StoreError> {
        let invite = invite.to_owned();
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                if let Some(known) = live_member(connection, &member.mesh_id, &member.pubkey).await? {
                    return Ok(Recorded::silently(InviteUse::AlreadyMember(Box::new(known))));
                }
                let taken = sqlx::query(
                    "UPDATE invite SET used_count = used_count + 1 WHERE id = $1 AND mesh_id = $2 \
                     AND revoked_at IS NULL AND expires_at > $3 AND used_count < max_uses",
                )
                .bind(invite.as_str())
                .bind(member.mesh_id.as_str())
                .bind(now.as_ms())
                .execute(&mut *connection)
                .await?;
                if taken.rows_affected() == 1 {
                    return if insert_member_row(connection, &member).await? {
                        Ok(Recorded::audited(InviteUse::Used))
                    } else {
                        Err(StoreError::Conflict("the id of the member is taken".into()))
                    };
                }
                let row = sqlx::query("SELECT * FROM invite WHERE id = $1 AND mesh_id = $2")
                    .bind(invite.as_str())
                    .bind(member.mesh_id.as_str())
                    .fetch_optional(connection)
                    .await?;
                let outcome = match row.as_ref().map(invite_row).transpose()? {
                    None => InviteUse::NoSuchInvite,
                    Some(row) if row.revoked_at.is_some() => InviteUse::Revoked,
                    Some(row) if row.expires_at <= now => InviteUse::Expired,
                    Some(_) => InviteUse::Exhausted,
                };
                Ok(Recorded::silently(outcome))
            })
        })
        .await
    }
}
