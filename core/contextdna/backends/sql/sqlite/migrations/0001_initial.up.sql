-- The first schema. Times are microseconds since 1970-01-01 UTC; project_id leads every key.

CREATE TABLE projects (
  id TEXT NOT NULL PRIMARY KEY,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  team_id TEXT NOT NULL,
  swarm_id TEXT NOT NULL,
  role TEXT NOT NULL,
  first_seen_at INTEGER NOT NULL,
  last_seen_at INTEGER NOT NULL,
  agent_type TEXT NOT NULL DEFAULT '',
  capabilities TEXT NOT NULL DEFAULT '[]',
  status TEXT NOT NULL DEFAULT 'active',
  confidence REAL,
  registered_by TEXT NOT NULL DEFAULT '',
  heartbeat_at INTEGER,
  retired_at INTEGER,
  placed INTEGER NOT NULL DEFAULT 0,
  credential_role TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (project_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX agents_by_sight ON agents (project_id, last_seen_at);

-- seq is the order of commit.
CREATE TABLE agent_history (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  what TEXT NOT NULL,
  by_agent_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  confidence REAL,
  details TEXT NOT NULL,
  UNIQUE (project_id, id)
) STRICT;

CREATE INDEX agent_history_by_agent ON agent_history (project_id, agent_id, seq);
CREATE INDEX agent_history_by_project ON agent_history (project_id, seq);

CREATE TRIGGER agent_history_keeps_on_update BEFORE UPDATE ON agent_history
BEGIN
  SELECT RAISE(ABORT, 'agent_history is append-only');
END;

CREATE TRIGGER agent_history_keeps_on_delete BEFORE DELETE ON agent_history
BEGIN
  SELECT RAISE(ABORT, 'agent_history is append-only');
END;

CREATE TABLE sessions (
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  secret_digest BLOB NOT NULL,
  agent_id TEXT NOT NULL,
  team_id TEXT NOT NULL,
  swarm_id TEXT NOT NULL,
  role TEXT NOT NULL,
  principal_id TEXT NOT NULL,
  lineage TEXT NOT NULL,
  parent_id TEXT NOT NULL,
  delegation_id TEXT NOT NULL,
  status TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  ended_at INTEGER,
  sealed_codec INTEGER NOT NULL,
  sealed_key_id TEXT NOT NULL,
  sealed_salt BLOB NOT NULL,
  body BLOB NOT NULL,
  thoughts INTEGER NOT NULL,
  state_version INTEGER NOT NULL,
  PRIMARY KEY (project_id, id)
) STRICT;

-- A handle names its session without its project.
CREATE INDEX sessions_by_id ON sessions (id);
CREATE INDEX sessions_by_parent ON sessions (parent_id) WHERE parent_id <> '';
CREATE INDEX sessions_by_agent ON sessions (project_id, agent_id, status, expires_at, ended_at, updated_at);
CREATE INDEX sessions_by_end ON sessions (project_id, expires_at) WHERE status = 'active';

CREATE TABLE session_states (
  project_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  sealed_codec INTEGER NOT NULL,
  sealed_key_id TEXT NOT NULL,
  sealed_salt BLOB NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (project_id, session_id, key)
) STRICT;

CREATE INDEX session_states_by_end ON session_states (project_id, expires_at);
CREATE INDEX sessions_active ON sessions (project_id, agent_id, expires_at) WHERE status = 'active';

-- Jobs that one process does for all: who has them, and the numbers of their leases.
CREATE TABLE leases (
  project_id TEXT NOT NULL,
  name TEXT NOT NULL,
  holder TEXT NOT NULL,
  fencing INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (project_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE delegations (
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  parent_session_id TEXT NOT NULL,
  child_session_id TEXT NOT NULL,
  parent_agent_id TEXT NOT NULL,
  child_agent_id TEXT NOT NULL,
  depth INTEGER NOT NULL,
  status TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  accepted_at INTEGER,
  ended_at INTEGER,
  result_ids TEXT NOT NULL,
  PRIMARY KEY (project_id, id)
) STRICT;

CREATE INDEX delegations_by_id ON delegations (id);

-- Header columns first and the body last: a long body lies in overflow pages that header reads never touch.
CREATE TABLE records (
  seq INTEGER PRIMARY KEY,
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  kind TEXT NOT NULL,
  level INTEGER NOT NULL CHECK (level BETWEEN 1 AND 5),
  owner_id TEXT NOT NULL,
  team_id TEXT NOT NULL,
  swarm_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  valid_from INTEGER,
  valid_to INTEGER,
  retention_until INTEGER,
  deleted_at INTEGER,
  importance REAL NOT NULL,
  tier TEXT NOT NULL,
  type TEXT NOT NULL,
  session_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  subject TEXT NOT NULL,
  version INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  superseded_by TEXT NOT NULL,
  content_hash BLOB NOT NULL,
  tag_tokens TEXT NOT NULL,
  blob_key TEXT NOT NULL,
  words INTEGER NOT NULL,
  sketch BLOB NOT NULL,
  sealed_codec INTEGER NOT NULL,
  sealed_key_id TEXT NOT NULL,
  sealed_salt BLOB NOT NULL,
  body BLOB NOT NULL,
  UNIQUE (project_id, id)
) STRICT;

CREATE INDEX records_by_recency ON records (project_id, created_at);
-- By seq, which an index holds behind its columns. Partial, so that the planner takes it only where it is named.
CREATE INDEX records_by_arrival ON records (project_id) WHERE seq > 0;
CREATE INDEX records_by_owner ON records (project_id, owner_id, session_id, level, kind);
CREATE INDEX records_by_hash ON records (project_id, content_hash);
CREATE INDEX records_by_session ON records (project_id, session_id, kind, position) WHERE session_id <> '';
CREATE INDEX records_by_subject ON records (project_id, subject, kind, position) WHERE subject <> '';
CREATE INDEX records_by_artifact ON records (project_id, created_at) WHERE kind = 'artifact';
CREATE INDEX records_by_loop ON records (project_id, created_at) WHERE kind = 'loop';
CREATE INDEX records_by_task ON records (project_id, created_at, id) WHERE kind = 'task';
CREATE INDEX records_by_priority ON records (project_id, importance DESC, created_at, id) WHERE kind = 'task';
CREATE INDEX records_by_retention ON records (project_id, retention_until) WHERE retention_until IS NOT NULL;
CREATE INDEX records_by_begin ON records (project_id, valid_from) WHERE valid_from IS NOT NULL;
CREATE INDEX records_by_end ON records (project_id, valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX records_by_deletion ON records (project_id, deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX records_by_idleness ON records (project_id, updated_at) WHERE tier IN ('working', 'episodic');
CREATE INDEX records_by_key ON records (project_id, sealed_key_id) WHERE sealed_key_id <> '';
CREATE INDEX records_by_blob ON records (blob_key) WHERE blob_key <> '';

-- Apart from records, so that counting a read rewrites no record and no index.
CREATE TABLE record_access (
  seq INTEGER PRIMARY KEY,
  access_count INTEGER NOT NULL,
  accessed_at INTEGER NOT NULL
) STRICT;

-- What the weights of words are computed with, deleted records too; each change of the index is a
-- revision, drawn by chance, as one that is rolled back must not come again.
CREATE TABLE index_totals (
  project_id TEXT NOT NULL PRIMARY KEY,
  records INTEGER NOT NULL,
  words INTEGER NOT NULL,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Keyed tokens only; the rowid is records.seq. It finds, and the sketches score; phrases need the full detail.
CREATE VIRTUAL TABLE records_index USING fts5(
  content, content = '', contentless_delete = 1, tokenize = 'unicode61'
);

-- Vectors of records, by records.seq. The serial is the order of commit and never used twice: a process that holds a vector under one
-- holds what stands, or what is gone. A vector of a record that has moved on is emptied at once (version 0).
CREATE TABLE embeddings (
  serial INTEGER PRIMARY KEY AUTOINCREMENT,
  seq INTEGER NOT NULL UNIQUE,
  project_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  space INTEGER NOT NULL,
  codec INTEGER NOT NULL,
  key_id TEXT NOT NULL,
  salt BLOB NOT NULL,
  vector BLOB NOT NULL
) STRICT;

CREATE INDEX embeddings_by_project ON embeddings (project_id, serial);
CREATE INDEX embeddings_emptied ON embeddings (project_id, seq) WHERE version = 0;

-- The one model of each project. Records up to done_seq had their turn; gone counts removed and replaced vectors.
CREATE TABLE embedding_spaces (
  project_id TEXT NOT NULL PRIMARY KEY,
  model TEXT NOT NULL,
  dimension INTEGER NOT NULL,
  number INTEGER NOT NULL,
  done_seq INTEGER NOT NULL,
  gone INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER embeddings_age_with_records AFTER UPDATE OF version, sealed_key_id ON records
WHEN NEW.version <> OLD.version OR NEW.sealed_key_id <> OLD.sealed_key_id
BEGIN
  UPDATE embeddings SET version = 0, codec = 0, key_id = '', salt = x'', vector = x'' WHERE seq = OLD.seq;
END;

-- The seq of the newest record is used again when it is purged, so whatever takes it has its turn to come.
CREATE TRIGGER embeddings_go_with_records AFTER DELETE ON records
BEGIN
  DELETE FROM embeddings WHERE seq = OLD.seq;
  UPDATE embedding_spaces SET done_seq = OLD.seq - 1
  WHERE done_seq >= OLD.seq AND NOT EXISTS (SELECT 1 FROM records WHERE seq > OLD.seq);
END;

CREATE TRIGGER embeddings_count_what_goes AFTER DELETE ON embeddings
BEGIN
  UPDATE embedding_spaces SET gone = gone + 1 WHERE project_id = OLD.project_id;
END;

CREATE TABLE grants (
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  record_id TEXT NOT NULL,
  grantee_id TEXT NOT NULL,
  granted_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  revoked_at INTEGER,
  delegation_id TEXT NOT NULL,
  rests_on TEXT NOT NULL,
  assignment INTEGER NOT NULL,
  PRIMARY KEY (project_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_by_record ON grants (project_id, record_id, grantee_id);
CREATE INDEX grants_by_grantee ON grants (project_id, grantee_id, expires_at);
CREATE INDEX grants_by_delegation ON grants (project_id, delegation_id) WHERE delegation_id <> '';
CREATE INDEX grants_by_rest ON grants (project_id, rests_on) WHERE rests_on <> '';

CREATE TABLE links (
  project_id TEXT NOT NULL,
  source_id TEXT NOT NULL,
  target_id TEXT NOT NULL,
  relation TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (project_id, source_id, target_id, relation)
) STRICT, WITHOUT ROWID;

CREATE INDEX links_by_age ON links (project_id, source_id, created_at, target_id, relation);
CREATE INDEX links_by_target ON links (project_id, target_id, created_at, source_id, relation);

CREATE TABLE audit_log (
  project_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  principal_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  action TEXT NOT NULL,
  outcome TEXT NOT NULL,
  risk TEXT NOT NULL,
  record_ids TEXT NOT NULL,
  details TEXT NOT NULL,
  request_id TEXT NOT NULL,
  trace_id TEXT NOT NULL,
  mac BLOB NOT NULL,
  PRIMARY KEY (project_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER audit_log_keeps_on_update BEFORE UPDATE ON audit_log
BEGIN
  SELECT RAISE(ABORT, 'audit_log is append-only');
END;

CREATE TRIGGER audit_log_keeps_on_delete BEFORE DELETE ON audit_log
BEGIN
  SELECT RAISE(ABORT, 'audit_log is append-only');
END;

-- REPLACE removes the old row without a delete trigger, so it is caught on its way in.
CREATE TRIGGER audit_log_keeps_on_replace BEFORE INSERT ON audit_log
WHEN EXISTS (SELECT 1 FROM audit_log WHERE project_id = NEW.project_id AND seq = NEW.seq)
BEGIN
  SELECT RAISE(ABORT, 'audit_log is append-only');
END;

CREATE TABLE audit_heads (
  project_id TEXT NOT NULL PRIMARY KEY,
  seq INTEGER NOT NULL,
  mac BLOB NOT NULL,
  signature BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The payload lies in the body, always encrypted, and bound to the audience.
CREATE TABLE signals (
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  sender_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  audience TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  withdrawn_at INTEGER,
  sealed_codec INTEGER NOT NULL,
  sealed_key_id TEXT NOT NULL,
  sealed_salt BLOB NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (project_id, id)
) STRICT;

CREATE INDEX signals_by_end ON signals (project_id, expires_at);

-- The audiences again, one row each: what waits for an agent is found without reading every signal, what it does not wait
-- for is passed over within the index. A row goes when its target has acknowledged, and all go when the signal is
-- withdrawn; a circle's stays until the signal expires.
CREATE TABLE signal_targets (
  project_id TEXT NOT NULL,
  signal_id TEXT NOT NULL,
  target TEXT NOT NULL,
  sender_id TEXT NOT NULL,
  name TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (project_id, signal_id, target)
) STRICT, WITHOUT ROWID;

CREATE INDEX signal_targets_by_target ON signal_targets (project_id, target, name, sender_id, expires_at, signal_id);
CREATE INDEX signal_targets_by_sender ON signal_targets (project_id, sender_id, signal_id, expires_at);

CREATE TABLE acknowledgements (
  project_id TEXT NOT NULL,
  signal_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  sealed_codec INTEGER NOT NULL,
  sealed_key_id TEXT NOT NULL,
  sealed_salt BLOB NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (project_id, signal_id, agent_id)
) STRICT;

CREATE INDEX acknowledgements_by_agent ON acknowledgements (project_id, agent_id, signal_id);

-- seq is the order of commit: an id made earlier may be committed later.
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  record_ids TEXT NOT NULL,
  at INTEGER NOT NULL,
  subject TEXT NOT NULL,
  audience TEXT NOT NULL,
  UNIQUE (project_id, id)
) STRICT;

CREATE INDEX events_by_project ON events (project_id, seq);
CREATE INDEX events_by_age ON events (at);

CREATE TABLE keys (
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  purpose TEXT NOT NULL,
  version INTEGER NOT NULL,
  master_id TEXT NOT NULL,
  wrapped BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (project_id, key_id)
) STRICT, WITHOUT ROWID;

-- Of the installation, not of a project. A token's text is stored nowhere, only the digest of its secret.
CREATE TABLE access_tokens (
  id TEXT NOT NULL PRIMARY KEY,
  agent_id TEXT NOT NULL,
  project_ids TEXT NOT NULL,
  team_id TEXT NOT NULL,
  swarm_id TEXT NOT NULL,
  role TEXT NOT NULL,
  scopes TEXT NOT NULL,
  label TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires_at INTEGER,
  revoked_at INTEGER,
  last_used_at INTEGER,
  secret_digest BLOB NOT NULL,
  seal BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotent_answers (
  project_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  answer TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (project_id, agent_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at);

CREATE TABLE conflicts (
  project_id TEXT NOT NULL,
  id TEXT NOT NULL,
  record_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  expected_version INTEGER NOT NULL,
  current_version INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (project_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX conflicts_by_time ON conflicts (project_id, at);

-- While an installation is being moved here, the one row that says so: nobody opens a database that holds it. The tallies are
-- of the rows that have come so far.
CREATE TABLE moves (
  source TEXT NOT NULL PRIMARY KEY,
  run TEXT NOT NULL,
  part TEXT NOT NULL,
  place TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE move_tallies (
  part TEXT NOT NULL,
  of_project TEXT NOT NULL,
  rows INTEGER NOT NULL,
  digest BLOB NOT NULL,
  PRIMARY KEY (part, of_project)
) STRICT, WITHOUT ROWID;

-- For people with an SQL shell: headers only, never a body.
CREATE VIEW memories AS
SELECT project_id, id, type AS memory_type, tier, importance, level, owner_id, team_id, swarm_id, session_id, version,
  created_at, updated_at, valid_from, valid_to, superseded_by, retention_until, deleted_at
FROM records WHERE kind = 'memory';

CREATE VIEW turns AS
SELECT project_id, id, session_id, position, type AS role, level, owner_id, team_id, swarm_id, version,
  created_at, updated_at, retention_until, deleted_at
FROM records WHERE kind = 'turn';

CREATE VIEW artifacts AS
SELECT project_id, id, subject AS name_hash, position AS artifact_version, type AS media_type, blob_key, level, owner_id,
  team_id, swarm_id, session_id, version, created_at, updated_at, retention_until, deleted_at
FROM records WHERE kind = 'artifact';

CREATE VIEW loop_records AS
SELECT project_id, id, type AS loop, subject AS phase, position AS iteration, importance, level, owner_id, team_id,
  swarm_id, session_id, version, created_at, deleted_at
FROM records WHERE kind = 'loop';

CREATE VIEW tasks AS
SELECT project_id, id, type AS status, subject AS assignee, importance AS priority, level, owner_id, team_id, swarm_id,
  session_id, version, created_at, updated_at, retention_until, deleted_at
FROM records WHERE kind = 'task';
