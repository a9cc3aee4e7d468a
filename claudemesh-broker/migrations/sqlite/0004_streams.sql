-- Names of streams; their events are in memory only.

CREATE TABLE stream (
  id TEXT NOT NULL PRIMARY KEY,
  mesh_id TEXT NOT NULL REFERENCES mesh (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  created_by_member TEXT NOT NULL,
  created_by_name TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX stream_mesh_name ON stream (mesh_id, name);
