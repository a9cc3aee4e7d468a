-- Shared files. A row is there before its first byte, and a blob is listed as garbage before its row goes: whatever
-- happens in between, a sweep finds every blob. The same tables as migrations/sqlite/0005_files.sql.

CREATE TABLE file (
  mesh_id TEXT NOT NULL REFERENCES mesh (id),
  id TEXT NOT NULL,
  blob TEXT NOT NULL,
  upload TEXT,
  name TEXT NOT NULL,
  name_folded TEXT NOT NULL,
  tags TEXT NOT NULL,
  mime TEXT,
  size BIGINT NOT NULL,
  received BIGINT NOT NULL,
  persistent BIGINT NOT NULL,
  keep_ms BIGINT,
  encrypted BIGINT NOT NULL,
  target TEXT,
  proof TEXT,
  owner_member_id TEXT NOT NULL,
  owner_pubkey TEXT NOT NULL,
  owner_name TEXT NOT NULL,
  begun_at BIGINT NOT NULL,
  shared_at BIGINT,
  expires_at BIGINT,
  PRIMARY KEY (mesh_id, id)
);
CREATE INDEX file_shared ON file (mesh_id, shared_at, id);
CREATE INDEX file_expires ON file (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE file_key (
  mesh_id TEXT NOT NULL,
  file_id TEXT NOT NULL,
  peer_pubkey TEXT NOT NULL,
  sealed_key TEXT NOT NULL,
  granted_at BIGINT NOT NULL,
  granted_by TEXT NOT NULL,
  PRIMARY KEY (mesh_id, file_id, peer_pubkey),
  FOREIGN KEY (mesh_id, file_id) REFERENCES file (mesh_id, id) ON DELETE CASCADE
);

CREATE TABLE file_access (
  id TEXT NOT NULL PRIMARY KEY,
  mesh_id TEXT NOT NULL,
  file_id TEXT NOT NULL,
  peer_pubkey TEXT NOT NULL,
  peer_name TEXT NOT NULL,
  accessed_at BIGINT NOT NULL,
  FOREIGN KEY (mesh_id, file_id) REFERENCES file (mesh_id, id) ON DELETE CASCADE
);
CREATE INDEX file_access_file ON file_access (mesh_id, file_id, accessed_at);

-- Blobs that nothing refers to any more.
CREATE TABLE file_garbage (
  mesh_id TEXT NOT NULL,
  blob TEXT NOT NULL PRIMARY KEY,
  upload TEXT,
  since BIGINT NOT NULL
);
