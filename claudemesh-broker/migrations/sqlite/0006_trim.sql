-- Nearly every entry tells of a message: they are found without an index of types, and a message writes two pages less.
DROP INDEX audit_log_type;
CREATE INDEX audit_log_type ON audit_log (mesh_id, event_type, id) WHERE event_type <> 'message_sent';

-- Live sessions are in memory, and nothing asks for those that were.
DROP TABLE presence;
