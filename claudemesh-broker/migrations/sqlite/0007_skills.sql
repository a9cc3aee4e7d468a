-- Skills, and the files that come with them. The same tables as migrations/postgres/0007_skills.sql.
-- A bundle is there before the skill that it belongs to: what is not deployed in time is swept.

CREATE TABLE skill_bundle (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  id TEXT NOT NULL,
  member_id TEXT NOT NULL,
  begun_at BIGINT NOT NULL,
  deployed BIGINT NOT NULL,
  files BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  PRIMARY KEY (mesh_id, id)
);
CREATE INDEX skill_bundle_begun ON skill_bundle (begun_at) WHERE deployed = 0;

CREATE TABLE skill_file (
  mesh_id TEXT NOT NULL,
  bundle TEXT NOT NULL,
  folded TEXT NOT NULL,
  path TEXT NOT NULL,
  executable BIGINT NOT NULL,
  size BIGINT NOT NULL,
  content BLOB NOT NULL,
  PRIMARY KEY (mesh_id, bundle, folded),
  FOREIGN KEY (mesh_id, bundle) REFERENCES skill_bundle (mesh_id, id) ON DELETE CASCADE
);

CREATE TABLE skill (
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  instructions TEXT NOT NULL,
  tags TEXT NOT NULL,
  manifest TEXT,
  source TEXT,
  bundle TEXT,
  file_count BIGINT NOT NULL,
  file_bytes BIGINT NOT NULL,
  search TEXT NOT NULL,
  author_member TEXT NOT NULL,
  author_name TEXT NOT NULL,
  updated_by_member TEXT NOT NULL,
  updated_by_name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (mesh_id, name)
);
