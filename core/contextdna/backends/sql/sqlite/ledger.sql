-- The audit log, the outbox of events, keys, idempotent answers, conflicts.

-- name: audit_head
SELECT project_id, seq, mac, signature FROM audit_heads WHERE project_id = ?1

-- name: audit_heads
SELECT project_id, seq, mac, signature FROM audit_heads ORDER BY project_id

-- name: audit_head_set
INSERT INTO audit_heads (project_id, seq, mac, signature) VALUES (?, ?, ?, ?)
ON CONFLICT (project_id) DO UPDATE SET seq = excluded.seq, mac = excluded.mac, signature = excluded.signature

-- name: audit_append
INSERT INTO audit_log (
  project_id, seq, at, principal_id, agent_id, session_id, action, outcome, risk, record_ids, details, request_id,
  trace_id, mac
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: audit_entries
SELECT project_id, seq, at, principal_id, agent_id, session_id, action, outcome, risk, record_ids, details, request_id,
  trace_id, mac
FROM audit_log WHERE project_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3

-- name: audit_latest
SELECT project_id, seq, at, principal_id, agent_id, session_id, action, outcome, risk, record_ids, details, request_id,
  trace_id, mac
FROM audit_log
WHERE project_id = ?1 AND seq < ?2
  AND (?4 = '' OR action = ?4)
  AND (?5 = '' OR agent_id = ?5)
  AND (?6 = '' OR instr(record_ids, json_quote(?6)) > 0)
ORDER BY seq DESC LIMIT ?3

-- name: audit_chains
SELECT DISTINCT project_id FROM audit_log ORDER BY project_id

-- name: event_append
INSERT INTO events (project_id, id, name, agent_id, record_ids, at, subject, audience)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: events_after
SELECT id, project_id, name, agent_id, record_ids, at, subject, audience, seq FROM events
WHERE project_id = ?1 AND seq > coalesce(
  (SELECT seq FROM events WHERE project_id = ?1 AND id = ?2),
  (SELECT max(seq) FROM events WHERE project_id = ?1 AND id < ?2),
  0
)
ORDER BY seq LIMIT ?3

-- name: events_place
SELECT seq FROM events WHERE project_id = ?1 AND id = ?2

-- name: events_since
SELECT id, project_id, name, agent_id, record_ids, at, subject, audience, seq FROM events
WHERE seq > ?1 ORDER BY seq LIMIT ?2

-- name: events_last_seq
SELECT coalesce(max(seq), 0) FROM events

-- name: events_delete_before
DELETE FROM events WHERE seq IN (
  SELECT seq FROM events INDEXED BY events_by_age WHERE at < ?1 ORDER BY at, seq LIMIT ?2
)

-- name: keys_all
SELECT key_id, project_id, purpose, version, master_id, wrapped, created_at FROM keys
ORDER BY project_id, purpose, version

-- name: keys_of
SELECT key_id, project_id, purpose, version, master_id, wrapped, created_at FROM keys WHERE project_id = ?1
ORDER BY purpose, version

-- name: keys_generation
SELECT coalesce(max(version), 0) FROM keys WHERE project_id = ?1

-- name: key_add
INSERT INTO keys (key_id, project_id, purpose, version, master_id, wrapped, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: key_rewrap
UPDATE keys SET master_id = ?3, wrapped = ?4 WHERE project_id = ?1 AND key_id = ?2

-- name: answer_get
SELECT project_id, agent_id, key, fingerprint, answer, created_at FROM idempotent_answers
WHERE project_id = ?1 AND agent_id = ?2 AND key = ?3

-- name: answer_keep
INSERT INTO idempotent_answers (project_id, agent_id, key, fingerprint, answer, created_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING

-- name: answer_forget
DELETE FROM idempotent_answers WHERE project_id = ? AND agent_id = ? AND key = ?

-- name: answers_delete_before
DELETE FROM idempotent_answers WHERE (project_id, agent_id, key) IN (
  SELECT project_id, agent_id, key FROM idempotent_answers WHERE created_at < ?1 ORDER BY created_at LIMIT ?2
)

-- name: conflict_add
INSERT INTO conflicts (id, project_id, record_id, agent_id, expected_version, current_version, at)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: conflicts_latest
SELECT id, project_id, record_id, agent_id, expected_version, current_version, at FROM conflicts
WHERE project_id = ?1 ORDER BY at DESC, id DESC LIMIT ?2
