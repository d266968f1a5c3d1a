-- The first schema. project_id leads every key. Texts compare by their bytes (COLLATE "C"), as in every backend.
-- What is bound by a MAC stays text, as it was written; JSON that is asked for its elements is jsonb.

CREATE TABLE projects (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  created_at timestamptz NOT NULL
);

CREATE TABLE agents (
  project_id text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  team_id text COLLATE "C" NOT NULL,
  swarm_id text COLLATE "C" NOT NULL,
  role text COLLATE "C" NOT NULL,
  first_seen_at timestamptz NOT NULL,
  last_seen_at timestamptz NOT NULL,
  agent_type text COLLATE "C" NOT NULL DEFAULT '',
  capabilities jsonb NOT NULL DEFAULT '[]',
  status text COLLATE "C" NOT NULL DEFAULT 'active',
  confidence double precision,
  registered_by text COLLATE "C" NOT NULL DEFAULT '',
  heartbeat_at timestamptz,
  retired_at timestamptz,
  placed boolean NOT NULL DEFAULT false,
  credential_role text COLLATE "C" NOT NULL DEFAULT '',
  PRIMARY KEY (project_id, id)
);

CREATE INDEX agents_by_sight ON agents (project_id, last_seen_at);

-- seq is the order of commit.
CREATE TABLE agent_history (
  project_id text COLLATE "C" NOT NULL,
  seq bigint GENERATED ALWAYS AS IDENTITY,
  id text COLLATE "C" NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  at timestamptz NOT NULL,
  what text COLLATE "C" NOT NULL,
  by_agent_id text COLLATE "C" NOT NULL,
  session_id text COLLATE "C" NOT NULL,
  confidence double precision,
  details text COLLATE "C" NOT NULL,
  PRIMARY KEY (project_id, seq),
  UNIQUE (project_id, id)
);

CREATE INDEX agent_history_by_agent ON agent_history (project_id, agent_id, seq);

CREATE TABLE sessions (
  project_id text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  secret_digest bytea NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  team_id text COLLATE "C" NOT NULL,
  swarm_id text COLLATE "C" NOT NULL,
  role text COLLATE "C" NOT NULL,
  principal_id text COLLATE "C" NOT NULL,
  lineage jsonb NOT NULL,
  parent_id text COLLATE "C" NOT NULL,
  delegation_id text COLLATE "C" NOT NULL,
  status text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  ended_at timestamptz,
  sealed_codec smallint NOT NULL,
  sealed_key_id text COLLATE "C" NOT NULL,
  sealed_salt bytea NOT NULL,
  body bytea NOT NULL,
  thoughts integer NOT NULL,
  state_version bigint NOT NULL,
  PRIMARY KEY (project_id, id)
);

-- A handle names its session without its project.
CREATE INDEX sessions_by_id ON sessions (id);
CREATE INDEX sessions_by_parent ON sessions (parent_id) WHERE parent_id <> '';
CREATE INDEX sessions_by_agent ON sessions (project_id, agent_id, status, expires_at, ended_at, updated_at);
CREATE INDEX sessions_by_end ON sessions (project_id, expires_at) WHERE status = 'active';

CREATE TABLE session_states (
  project_id text COLLATE "C" NOT NULL,
  session_id text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  updated_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  sealed_codec smallint NOT NULL,
  sealed_key_id text COLLATE "C" NOT NULL,
  sealed_salt bytea NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (project_id, session_id, key)
);

CREATE INDEX session_states_by_end ON session_states (project_id, expires_at);
CREATE INDEX sessions_active ON sessions (project_id, agent_id, expires_at) WHERE status = 'active';

-- Jobs that one process does for all: who has them, and the numbers of their leases.
CREATE TABLE leases (
  project_id text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  holder text COLLATE "C" NOT NULL,
  fencing bigint NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, name)
);

CREATE TABLE delegations (
  project_id text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  parent_session_id text COLLATE "C" NOT NULL,
  child_session_id text COLLATE "C" NOT NULL,
  parent_agent_id text COLLATE "C" NOT NULL,
  child_agent_id text COLLATE "C" NOT NULL,
  depth integer NOT NULL,
  status text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  accepted_at timestamptz,
  ended_at timestamptz,
  result_ids jsonb NOT NULL,
  PRIMARY KEY (project_id, id)
);

CREATE INDEX delegations_by_id ON delegations (id);

-- Places in the order of arrival: within a project also in the order of commit, as its units of work come one by one.
CREATE SEQUENCE record_places;

CREATE TABLE records (
  project_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  id text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  level smallint NOT NULL CHECK (level BETWEEN 1 AND 5),
  owner_id text COLLATE "C" NOT NULL,
  team_id text COLLATE "C" NOT NULL,
  swarm_id text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  valid_from timestamptz,
  valid_to timestamptz,
  retention_until timestamptz,
  deleted_at timestamptz,
  importance double precision NOT NULL,
  tier text COLLATE "C" NOT NULL,
  type text COLLATE "C" NOT NULL,
  session_id text COLLATE "C" NOT NULL,
  position bigint NOT NULL,
  subject text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  updated_at timestamptz NOT NULL,
  superseded_by text COLLATE "C" NOT NULL,
  content_hash bytea NOT NULL,
  tag_tokens jsonb NOT NULL,
  blob_key text COLLATE "C" NOT NULL,
  words integer NOT NULL,
  sketch bytea NOT NULL,
  sealed_codec smallint NOT NULL,
  sealed_key_id text COLLATE "C" NOT NULL,
  sealed_salt bytea NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (project_id, id),
  UNIQUE (project_id, seq)
);

-- Sealed bodies and sketches look random: trying to compress them is in vain.
ALTER TABLE records ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN sketch SET STORAGE EXTERNAL;

CREATE INDEX records_by_recency ON records (project_id, created_at, seq);
CREATE INDEX records_by_owner ON records (project_id, owner_id, session_id, level, kind, seq);
CREATE INDEX records_by_hash ON records (project_id, content_hash);
CREATE INDEX records_by_session ON records (project_id, session_id, kind, position, seq) WHERE session_id <> '';
CREATE INDEX records_by_subject ON records (project_id, subject, kind, position, seq) WHERE subject <> '';
CREATE INDEX records_by_artifact ON records (project_id, created_at, seq) WHERE kind = 'artifact';
CREATE INDEX records_by_loop ON records (project_id, created_at, seq) WHERE kind = 'loop';
CREATE INDEX records_by_task ON records (project_id, created_at, id) WHERE kind = 'task';
CREATE INDEX records_by_priority ON records (project_id, importance DESC, created_at, id) WHERE kind = 'task';
CREATE INDEX records_by_retention ON records (project_id, retention_until) WHERE retention_until IS NOT NULL;
CREATE INDEX records_by_begin ON records (project_id, valid_from) WHERE valid_from IS NOT NULL;
CREATE INDEX records_by_end ON records (project_id, valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX records_by_deletion ON records (project_id, deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX records_by_idleness ON records (project_id, updated_at) WHERE tier IN ('working', 'episodic');
CREATE INDEX records_by_key ON records (project_id, sealed_key_id) WHERE sealed_key_id <> '';
CREATE INDEX records_by_blob ON records (blob_key) WHERE blob_key <> '';

-- Apart from records, so that counting a read writes no new version of a record.
CREATE TABLE record_access (
  project_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  access_count bigint NOT NULL,
  accessed_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, seq)
) WITH (fillfactor = 80);

-- What the weights of words are computed with, deleted records too; each change of the index is a
-- revision, drawn by chance, as one that is rolled back must not come again.
CREATE TABLE index_totals (
  project_id text COLLATE "C" NOT NULL PRIMARY KEY,
  records bigint NOT NULL,
  words bigint NOT NULL,
  revision bigint NOT NULL
);

-- Keyed tokens only, in their order. The index finds, and the sketches score; phrases are looked for in the text.
CREATE TABLE records_index (
  project_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  content text COLLATE "C" NOT NULL,
  PRIMARY KEY (project_id, seq)
);

CREATE INDEX records_index_words ON records_index
USING gin (array_to_tsvector(string_to_array(content, ' '))) WITH (fastupdate = off);

-- Whether a text holds what is wanted: of one group at least, all needs in one of their forms.
CREATE FUNCTION holds_phrases(content text, wanted jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT EXISTS (
    SELECT FROM jsonb_array_elements(wanted) AS one(needs) WHERE NOT EXISTS (
      SELECT FROM jsonb_array_elements(one.needs) AS need(forms) WHERE NOT EXISTS (
        SELECT FROM jsonb_array_elements_text(need.forms) AS form(phrase)
        WHERE strpos(' ' || content || ' ', ' ' || form.phrase || ' ') > 0
      )
    )
  )
$$;

-- Vectors of records, by records.seq. The serial is the order of commit within a project and never used twice: a process that
-- holds a vector under one holds what stands, or what is gone. A vector of a record that has moved on is emptied at once
-- (version 0).
CREATE TABLE embeddings (
  project_id text COLLATE "C" NOT NULL,
  serial bigint GENERATED ALWAYS AS IDENTITY,
  seq bigint NOT NULL,
  version bigint NOT NULL,
  space integer NOT NULL,
  codec smallint NOT NULL,
  key_id text COLLATE "C" NOT NULL,
  salt bytea NOT NULL,
  vector bytea NOT NULL,
  PRIMARY KEY (project_id, serial),
  UNIQUE (project_id, seq)
);

ALTER TABLE embeddings ALTER COLUMN vector SET STORAGE EXTERNAL;

CREATE INDEX embeddings_emptied ON embeddings (project_id, seq) WHERE version = 0;

-- The one model of each project. Records up to done_seq had their turn; gone counts removed and replaced vectors.
CREATE TABLE embedding_spaces (
  project_id text COLLATE "C" NOT NULL PRIMARY KEY,
  model text COLLATE "C" NOT NULL,
  dimension integer NOT NULL,
  number integer NOT NULL,
  done_seq bigint NOT NULL,
  gone bigint NOT NULL
);

CREATE FUNCTION empty_embedding() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE embeddings SET version = 0, codec = 0, key_id = '', salt = '', vector = ''
  WHERE project_id = OLD.project_id AND seq = OLD.seq;
  RETURN NULL;
END
$$;

CREATE TRIGGER embeddings_age_with_records AFTER UPDATE OF version, sealed_key_id ON records
FOR EACH ROW WHEN (NEW.version <> OLD.version OR NEW.sealed_key_id <> OLD.sealed_key_id)
EXECUTE FUNCTION empty_embedding();

CREATE FUNCTION drop_embedding() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM embeddings WHERE project_id = OLD.project_id AND seq = OLD.seq;
  RETURN NULL;
END
$$;

CREATE TRIGGER embeddings_go_with_records AFTER DELETE ON records
FOR EACH ROW EXECUTE FUNCTION drop_embedding();

CREATE FUNCTION count_gone_embedding() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE embedding_spaces SET gone = gone + 1 WHERE project_id = OLD.project_id;
  RETURN NULL;
END
$$;

CREATE TRIGGER embeddings_count_what_goes AFTER DELETE ON embeddings
FOR EACH ROW EXECUTE FUNCTION count_gone_embedding();

CREATE TABLE grants (
  project_id text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  record_id text COLLATE "C" NOT NULL,
  grantee_id text COLLATE "C" NOT NULL,
  granted_by text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz,
  delegation_id text COLLATE "C" NOT NULL,
  rests_on text COLLATE "C" NOT NULL,
  assignment boolean NOT NULL,
  PRIMARY KEY (project_id, id)
);

CREATE INDEX grants_by_record ON grants (project_id, record_id, grantee_id);
CREATE INDEX grants_by_grantee ON grants (project_id, grantee_id, expires_at);
CREATE INDEX grants_by_delegation ON grants (project_id, delegation_id) WHERE delegation_id <> '';
CREATE INDEX grants_by_rest ON grants (project_id, rests_on) WHERE rests_on <> '';

CREATE TABLE links (
  project_id text COLLATE "C" NOT NULL,
  source_id text COLLATE "C" NOT NULL,
  target_id text COLLATE "C" NOT NULL,
  relation text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, source_id, target_id, relation)
);

CREATE INDEX links_by_age ON links (project_id, source_id, created_at, target_id, relation);
CREATE INDEX links_by_target ON links (project_id, target_id, created_at, source_id, relation);

CREATE TABLE audit_log (
  project_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  at timestamptz NOT NULL,
  principal_id text COLLATE "C" NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  session_id text COLLATE "C" NOT NULL,
  action text COLLATE "C" NOT NULL,
  outcome text COLLATE "C" NOT NULL,
  risk text COLLATE "C" NOT NULL,
  record_ids text COLLATE "C" NOT NULL,
  details text COLLATE "C" NOT NULL,
  request_id text COLLATE "C" NOT NULL,
  trace_id text COLLATE "C" NOT NULL,
  mac bytea NOT NULL,
  PRIMARY KEY (project_id, seq)
);

CREATE TABLE audit_heads (
  project_id text COLLATE "C" NOT NULL PRIMARY KEY,
  seq bigint NOT NULL,
  mac bytea NOT NULL,
  signature bytea NOT NULL
);

-- The payload lies in the body, always encrypted, and bound to the audience.
CREATE TABLE signals (
  project_id text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  sender_id text COLLATE "C" NOT NULL,
  session_id text COLLATE "C" NOT NULL,
  audience jsonb NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  withdrawn_at timestamptz,
  sealed_codec smallint NOT NULL,
  sealed_key_id text COLLATE "C" NOT NULL,
  sealed_salt bytea NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (project_id, id)
);

CREATE INDEX signals_by_end ON signals (project_id, expires_at);

-- The audiences again, one row each: what waits for an agent is found without reading every signal, what it does not wait
-- for is passed over within the index. A row goes when its target has acknowledged, and all go when the signal is
-- withdrawn; a circle's stays until the signal expires.
CREATE TABLE signal_targets (
  project_id text COLLATE "C" NOT NULL,
  signal_id text COLLATE "C" NOT NULL,
  target text COLLATE "C" NOT NULL,
  sender_id text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, signal_id, target)
);

CREATE INDEX signal_targets_by_target ON signal_targets (project_id, target, name, sender_id, expires_at, signal_id);
CREATE INDEX signal_targets_by_sender ON signal_targets (project_id, sender_id, signal_id, expires_at);

CREATE TABLE acknowledgements (
  project_id text COLLATE "C" NOT NULL,
  signal_id text COLLATE "C" NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  at timestamptz NOT NULL,
  sealed_codec smallint NOT NULL,
  sealed_key_id text COLLATE "C" NOT NULL,
  sealed_salt bytea NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (project_id, signal_id, agent_id)
);

CREATE INDEX acknowledgements_by_agent ON acknowledgements (project_id, agent_id, signal_id);

-- seq is the order of commit: an id made earlier may be committed later.
CREATE TABLE events (
  project_id text COLLATE "C" NOT NULL,
  seq bigint GENERATED ALWAYS AS IDENTITY,
  id text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  record_ids jsonb NOT NULL,
  at timestamptz NOT NULL,
  subject text COLLATE "C" NOT NULL,
  audience jsonb NOT NULL,
  PRIMARY KEY (project_id, seq),
  UNIQUE (project_id, id)
);

-- Whoever writes events draws their places, and commits, before the next one draws any. The lock is taken before the first
-- row is made, so no transaction can get a place that is before one that others can see already.
CREATE FUNCTION order_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('contextdna event order', 0));
  RETURN NULL;
END
$$;

CREATE TRIGGER events_in_order BEFORE INSERT ON events
FOR EACH STATEMENT EXECUTE FUNCTION order_events();

CREATE INDEX events_by_place ON events (seq);
CREATE INDEX events_by_age ON events (at);

CREATE TABLE keys (
  project_id text COLLATE "C" NOT NULL,
  key_id text COLLATE "C" NOT NULL,
  purpose text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  master_id text COLLATE "C" NOT NULL,
  wrapped bytea NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, key_id)
);

-- Of the installation, not of a project. A token's text is stored nowhere, only the digest of its secret.
CREATE TABLE access_tokens (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  agent_id text COLLATE "C" NOT NULL,
  project_ids jsonb NOT NULL,
  team_id text COLLATE "C" NOT NULL,
  swarm_id text COLLATE "C" NOT NULL,
  role text COLLATE "C" NOT NULL,
  scopes jsonb NOT NULL,
  label text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  secret_digest bytea NOT NULL,
  seal bytea NOT NULL
);

CREATE TABLE idempotent_answers (
  project_id text COLLATE "C" NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  fingerprint bytea NOT NULL,
  answer text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, agent_id, key)
);

CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at);

CREATE TABLE conflicts (
  project_id text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  record_id text COLLATE "C" NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  expected_version bigint NOT NULL,
  current_version bigint NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (project_id, id)
);

CREATE INDEX conflicts_by_time ON conflicts (project_id, at);

-- Nobody rewrites what was done, not even the tables' owner by mistake: ALWAYS holds for replication roles, too.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER agent_history_keeps BEFORE UPDATE OR DELETE OR TRUNCATE ON agent_history
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE agent_history ENABLE ALWAYS TRIGGER agent_history_keeps;

CREATE TRIGGER audit_log_keeps BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_keeps;

-- A second wall behind the predicate in every statement: a transaction sees the one project that it has named with
-- contextdna.project ('=' and the id), or all with '*'; one that has named nothing sees nothing. It holds for the owner of
-- the tables, too, but not for superusers. records_index has none: no index would serve a search behind it (@@ is not
-- leakproof), it holds nothing but keyed tokens, and these are of one project each.
DO $$
DECLARE
  walled text;
BEGIN
  FOREACH walled IN ARRAY ARRAY[
    'agents', 'agent_history', 'sessions', 'session_states', 'delegations', 'records', 'record_access', 'index_totals',
    'embeddings', 'embedding_spaces', 'grants', 'links', 'audit_log', 'audit_heads', 'signals', 'signal_targets',
    'acknowledgements', 'events', 'keys', 'idempotent_answers', 'conflicts', 'leases'
  ] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', walled);
    EXECUTE format(
      $policy$
        CREATE POLICY one_project ON %I USING (
          project_id = (
            SELECT substr(named, 2) FROM current_setting('contextdna.project', true) AS named
            WHERE starts_with(named, '=')
          )
          OR (SELECT current_setting('contextdna.project', true) = '*')
        )
      $policy$,
      walled
    );
  END LOOP;
END
$$;

-- Tokens are of the installation, which is named as a project is: its id is empty.
ALTER TABLE access_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY one_project ON access_tokens USING (
  (SELECT current_setting('contextdna.project', true) IN ('=', '*'))
);

-- The transaction that last changed who may read what in a project, and a mark of its own, drawn at random. A standby that does
-- not hold this very mark answers nobody, so a right that was taken away is taken away there, too, whatever history it follows.
-- One row a project, and no secret: no policy stands before it. A transaction is told from those of other servers by when its
-- server was started: numbers come again after a failover or a restore.
CREATE TABLE access_changes (
  project_id text COLLATE "C" NOT NULL PRIMARY KEY,
  changed_by text COLLATE "C" NOT NULL,
  mark uuid NOT NULL
);

CREATE FUNCTION server_start() RETURNS text LANGUAGE sql STABLE AS $$
SELECT extract(epoch FROM pg_postmaster_start_time())::text
$$;

CREATE FUNCTION note_access_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO access_changes AS noted (project_id, changed_by, mark)
  VALUES (
    CASE TG_OP WHEN 'DELETE' THEN OLD.project_id ELSE NEW.project_id END,
    server_start() || ' ' || pg_current_xact_id(),
    gen_random_uuid()
  )
  ON CONFLICT (project_id) DO UPDATE SET changed_by = excluded.changed_by, mark = excluded.mark
  WHERE noted.changed_by <> excluded.changed_by;
  RETURN NULL;
END
$$;

-- One row: when the primary was started that wrote it, and a mark drawn at random. A standby that holds the mark of the primary's
-- present run follows its history; one that was left behind by a failover or a restore never comes to hold it.
CREATE TABLE histories (
  single boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (single),
  server_start text COLLATE "C" NOT NULL,
  mark uuid NOT NULL
);

CREATE TRIGGER records_change_access AFTER UPDATE ON records FOR EACH ROW
WHEN (
  ROW(NEW.level, NEW.owner_id, NEW.team_id, NEW.swarm_id, NEW.deleted_at, NEW.retention_until)
  IS DISTINCT FROM ROW(OLD.level, OLD.owner_id, OLD.team_id, OLD.swarm_id, OLD.deleted_at, OLD.retention_until)
)
EXECUTE FUNCTION note_access_change();

CREATE TRIGGER records_purged_change_access AFTER DELETE ON records FOR EACH ROW EXECUTE FUNCTION note_access_change();
CREATE TRIGGER grants_change_access AFTER UPDATE OR DELETE ON grants FOR EACH ROW EXECUTE FUNCTION note_access_change();

CREATE TRIGGER sessions_change_access AFTER UPDATE ON sessions FOR EACH ROW
WHEN (
  NEW.expires_at < OLD.expires_at
  OR ROW(NEW.secret_digest, NEW.agent_id, NEW.team_id, NEW.swarm_id, NEW.role, NEW.principal_id, NEW.lineage, NEW.status)
  IS DISTINCT FROM
  ROW(OLD.secret_digest, OLD.agent_id, OLD.team_id, OLD.swarm_id, OLD.role, OLD.principal_id, OLD.lineage, OLD.status)
)
EXECUTE FUNCTION note_access_change();

CREATE TRIGGER sessions_gone_change_access AFTER DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION note_access_change();

CREATE TRIGGER delegations_change_access AFTER UPDATE ON delegations FOR EACH ROW
WHEN (NEW.status <> OLD.status OR NEW.expires_at < OLD.expires_at)
EXECUTE FUNCTION note_access_change();

CREATE TRIGGER agents_new_change_access AFTER INSERT OR DELETE ON agents FOR EACH ROW EXECUTE FUNCTION note_access_change();

CREATE TRIGGER agents_change_access AFTER UPDATE ON agents FOR EACH ROW
WHEN (
  ROW(NEW.team_id, NEW.swarm_id, NEW.role, NEW.credential_role, NEW.placed, NEW.status)
  IS DISTINCT FROM ROW(OLD.team_id, OLD.swarm_id, OLD.role, OLD.credential_role, OLD.placed, OLD.status)
)
EXECUTE FUNCTION note_access_change();

-- While an installation is being moved here, the one row that says so: nobody opens a database that holds it. The tallies are
-- of the rows that have come so far.
CREATE TABLE moves (
  source text COLLATE "C" NOT NULL PRIMARY KEY,
  run text COLLATE "C" NOT NULL,
  part text COLLATE "C" NOT NULL,
  place text COLLATE "C" NOT NULL
);

CREATE TABLE move_tallies (
  part text COLLATE "C" NOT NULL,
  of_project text COLLATE "C" NOT NULL,
  rows bigint NOT NULL,
  digest bytea NOT NULL,
  PRIMARY KEY (part, of_project)
);

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
