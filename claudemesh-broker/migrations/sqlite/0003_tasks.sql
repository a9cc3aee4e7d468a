-- Work that exactly one session takes on. The same table as migrations/postgres/0003_tasks.sql.
-- A claim whose time is over counts as none, whether or not the row says so yet.

CREATE TABLE task (
  seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  title TEXT NOT NULL,
  priority TEXT NOT NULL,
  status TEXT NOT NULL,
  tags TEXT NOT NULL,
  assignee_member TEXT,
  assignee_name TEXT,
  created_by_member TEXT NOT NULL,
  created_by_name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  claimed_by_member TEXT,
  claimed_by_name TEXT,
  claimed_by_session TEXT,
  claimed_at BIGINT,
  claim_expires_at BIGINT,
  completed_at BIGINT,
  result TEXT
);
CREATE UNIQUE INDEX task_id ON task (mesh_id, id);
CREATE INDEX task_mesh ON task (mesh_id, seq);
CREATE INDEX task_status ON task (mesh_id, status, seq);
CREATE INDEX task_claims ON task (claim_expires_at) WHERE status = 'claimed';
