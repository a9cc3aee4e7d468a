-- What the mesh remembers, and what its members know. The same tables as migrations/postgres/0002_memory.sql.
-- Numbers of rows are never used again: the index of words refers to them.

CREATE TABLE memory (
  seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  content TEXT NOT NULL,
  tags TEXT NOT NULL,
  tag_keys TEXT NOT NULL,
  remembered_by_member TEXT NOT NULL,
  remembered_by_name TEXT NOT NULL,
  remembered_at BIGINT NOT NULL,
  forgotten_at BIGINT
);
CREATE UNIQUE INDEX memory_id ON memory (mesh_id, id);
CREATE INDEX memory_mesh ON memory (mesh_id, remembered_by_member) WHERE forgotten_at IS NULL;
CREATE INDEX memory_forgotten ON memory (forgotten_at) WHERE forgotten_at IS NOT NULL;

-- The words of what is not forgotten, as the broker takes them apart: they are compared as they are. The mesh is a word of
-- its own, so that a search reads the rows of one mesh only.
CREATE VIRTUAL TABLE memory_words USING fts5 (mesh, body, tags, content = '', contentless_delete = 1, tokenize = 'ascii');
INSERT INTO memory_words (memory_words, rank) VALUES ('rank', 'bm25(0.0, 1.0, 2.0)');

CREATE TABLE context (
  seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  member_id TEXT NOT NULL,
  peer_name TEXT NOT NULL,
  topic TEXT NOT NULL,
  topic_key TEXT NOT NULL,
  summary TEXT NOT NULL,
  files_read TEXT NOT NULL,
  key_findings TEXT NOT NULL,
  tags TEXT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX context_topic ON context (mesh_id, member_id, topic_key);
CREATE INDEX context_updated ON context (mesh_id, updated_at);
CREATE VIRTUAL TABLE context_words USING fts5 (mesh, body, tags, content = '', contentless_delete = 1, tokenize = 'ascii');
