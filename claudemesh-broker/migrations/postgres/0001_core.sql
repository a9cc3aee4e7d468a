-- Times are milliseconds since the Unix epoch. JSON is text. The same tables as migrations/sqlite/0001_core.sql.

CREATE TABLE mesh (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  slug TEXT NOT NULL,
  owner_pubkey TEXT NOT NULL,
  owner_member_id TEXT NOT NULL,
  root_key TEXT NOT NULL,
  policy TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  archived_at BIGINT
);
CREATE UNIQUE INDEX mesh_slug ON mesh (slug) WHERE archived_at IS NULL;

CREATE TABLE member (
  id TEXT NOT NULL PRIMARY KEY,
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  peer_pubkey TEXT NOT NULL,
  display_name TEXT NOT NULL,
  role TEXT NOT NULL,
  is_owner BIGINT NOT NULL,
  role_tag TEXT,
  default_groups TEXT NOT NULL,
  message_mode TEXT NOT NULL,
  permissions TEXT NOT NULL,
  peer_grants TEXT NOT NULL,
  dashboard_user_id TEXT,
  joined_at BIGINT NOT NULL,
  last_seen_at BIGINT,
  revoked_at BIGINT
);
CREATE UNIQUE INDEX member_mesh_key ON member (mesh_id, peer_pubkey) WHERE revoked_at IS NULL;
CREATE INDEX member_key ON member (peer_pubkey);
CREATE INDEX member_mesh ON member (mesh_id);

CREATE TABLE invite (
  id TEXT NOT NULL PRIMARY KEY,
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  code TEXT NOT NULL,
  token_hash TEXT,
  canonical_v2 TEXT NOT NULL,
  signature TEXT NOT NULL,
  issuer_pubkey TEXT NOT NULL,
  role TEXT NOT NULL,
  max_uses BIGINT NOT NULL,
  used_count BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  invite_key TEXT,
  preset TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  revoked_at BIGINT
);
CREATE UNIQUE INDEX invite_code ON invite (code);
CREATE UNIQUE INDEX invite_token_hash ON invite (token_hash) WHERE token_hash IS NOT NULL;
CREATE INDEX invite_mesh ON invite (mesh_id, created_at);

-- History of sessions; live ones are in memory.
CREATE TABLE presence (
  id TEXT NOT NULL PRIMARY KEY,
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  member_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  session_pubkey TEXT,
  display_name TEXT NOT NULL,
  pid BIGINT NOT NULL,
  cwd TEXT NOT NULL,
  connected_at BIGINT NOT NULL,
  disconnected_at BIGINT
);
CREATE INDEX presence_live ON presence (mesh_id) WHERE disconnected_at IS NULL;
CREATE INDEX presence_ended ON presence (disconnected_at) WHERE disconnected_at IS NOT NULL;

-- What a member's last session left behind.
CREATE TABLE peer_state (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  member_id TEXT NOT NULL,
  groups TEXT NOT NULL,
  profile TEXT NOT NULL,
  visible BIGINT NOT NULL,
  last_summary TEXT,
  last_display_name TEXT,
  stats TEXT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  PRIMARY KEY (mesh_id, member_id)
);

-- Messages, deliveries and the audit log have no foreign keys: they are the hot path, their rows are written by one
-- task only, and a check per row would cost a lookup (on Postgres a row lock) each.
CREATE TABLE message (
  seq BIGINT NOT NULL PRIMARY KEY,
  id TEXT NOT NULL,
  mesh_id TEXT NOT NULL,
  sender_member_id TEXT NOT NULL,
  sender_session_pubkey TEXT,
  sender_name TEXT NOT NULL,
  sender_pubkey TEXT NOT NULL,
  client_id TEXT,
  target_kind BIGINT NOT NULL,
  target_spec TEXT NOT NULL,
  priority BIGINT NOT NULL,
  nonce TEXT NOT NULL,
  ciphertext TEXT NOT NULL,
  meta TEXT,
  sealed TEXT,
  subtype TEXT,
  session_hint TEXT,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX message_id ON message (mesh_id, id);
-- The idempotency key, where it is not the id: null where it is, so that the usual message costs one index entry at a
-- random place and not two.
CREATE UNIQUE INDEX message_client_id ON message (mesh_id, sender_member_id, client_id) WHERE client_id IS NOT NULL;

-- The key starts with the number, so that new rows go to the end of the table: places at random would have to be read and
-- written, a page each.
-- stage: 0 accepted, 1 delivered, 2 surfaced, 3 read, 4 expired, 5 refused, 6 revoked.
CREATE TABLE delivery (
  mesh_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  recipient_member_id TEXT NOT NULL,
  sender_member_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  priority BIGINT NOT NULL,
  stage SMALLINT NOT NULL,
  created_at BIGINT NOT NULL,
  delivered_at BIGINT,
  surfaced_at BIGINT,
  read_at BIGINT,
  ended_at BIGINT,
  adapter TEXT,
  reason TEXT,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (seq, recipient_member_id)
);
-- Only waiting rows are in it, so that it stays as small as the queue however much history there is. What has expired is
-- found by reading all of it twice a minute: an index of its own would cost two changes for every delivery.
CREATE INDEX delivery_pending ON delivery (mesh_id, recipient_member_id, priority, seq, expires_at) WHERE stage = 0;

CREATE TABLE pending_status (
  id TEXT NOT NULL PRIMARY KEY,
  mesh_id TEXT NOT NULL,
  member_id TEXT NOT NULL,
  pid BIGINT NOT NULL,
  cwd TEXT NOT NULL,
  session_id TEXT,
  status TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX pending_status_member ON pending_status (mesh_id, member_id, created_at);

CREATE TABLE state (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  version BIGINT NOT NULL,
  updated_by_member TEXT NOT NULL,
  updated_by_name TEXT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (mesh_id, key)
);

-- payload is the very text that was hashed.
CREATE TABLE audit_log (
  mesh_id TEXT NOT NULL,
  id BIGINT NOT NULL,
  event_type TEXT NOT NULL,
  actor_member_id TEXT,
  actor_name TEXT,
  payload TEXT NOT NULL,
  prev_hash TEXT NOT NULL,
  hash TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (mesh_id, id)
);
CREATE INDEX audit_log_type ON audit_log (mesh_id, event_type, id);

CREATE TABLE group_head (
  mesh_id TEXT NOT NULL PRIMARY KEY REFERENCES mesh (id) ON DELETE CASCADE,
  generation BIGINT NOT NULL,
  idx BIGINT NOT NULL,
  epoch BIGINT NOT NULL,
  hash TEXT NOT NULL,
  state TEXT NOT NULL
);

-- The primary key is the compare-and-set: one entry per place.
CREATE TABLE group_entry (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  generation BIGINT NOT NULL,
  idx BIGINT NOT NULL,
  epoch BIGINT NOT NULL,
  hash TEXT NOT NULL,
  author TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (mesh_id, generation, idx)
);

CREATE TABLE group_seal (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  recipient TEXT NOT NULL,
  generation BIGINT NOT NULL,
  epoch BIGINT NOT NULL,
  seal TEXT NOT NULL,
  PRIMARY KEY (mesh_id, recipient, generation, epoch)
);

CREATE TABLE group_cursor (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  generation BIGINT NOT NULL,
  idx BIGINT NOT NULL,
  epoch BIGINT NOT NULL,
  hash TEXT NOT NULL,
  problem TEXT,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (mesh_id, device)
);

CREATE TABLE group_grant (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  id TEXT NOT NULL,
  recipient TEXT NOT NULL,
  grant_json TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (mesh_id, id)
);
CREATE INDEX group_grant_recipient ON group_grant (mesh_id, recipient, created_at);

CREATE TABLE key_request (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  request TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (mesh_id, device)
);
