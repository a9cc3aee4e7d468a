-- What the mesh remembers, and what its members know. The same tables as migrations/sqlite/0002_memory.sql.

CREATE TABLE memory (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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

-- The words of what is not forgotten, as the broker takes them apart: no text search configuration is involved. The mesh
-- is a word of its own, so that a search reads the rows of one mesh only.
CREATE TABLE memory_words (
  seq BIGINT NOT NULL PRIMARY KEY REFERENCES memory (seq) ON DELETE CASCADE,
  words TSVECTOR NOT NULL
);
CREATE INDEX memory_words_index ON memory_words USING gin (words);

CREATE TABLE context (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
CREATE TABLE context_words (
  seq BIGINT NOT NULL PRIMARY KEY REFERENCES context (seq) ON DELETE CASCADE,
  words TSVECTOR NOT NULL
);
CREATE INDEX context_words_index ON context_words USING gin (words);
