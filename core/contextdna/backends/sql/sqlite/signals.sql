-- Signals and their acknowledgements.

-- fragment: signal
s.id, s.project_id, s.name, s.sender_id, s.session_id, s.audience, s.created_at, s.expires_at, s.withdrawn_at,
  s.sealed_codec, s.sealed_key_id, s.sealed_salt, s.body

-- name: signal_add
INSERT INTO signals (
  id, project_id, name, sender_id, session_id, audience, created_at, expires_at, withdrawn_at,
  sealed_codec, sealed_key_id, sealed_salt, body
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: signal_target_add
INSERT INTO signal_targets (project_id, signal_id, target, sender_id, name, expires_at) VALUES (?, ?, ?, ?, ?, ?)

-- What waits for an agent is what has a row for it: what it was asked by name and has acknowledged has none.
-- name: signal_target_settle
DELETE FROM signal_targets WHERE project_id = ?1 AND signal_id = ?2 AND target = ?3

-- name: signal_get
SELECT {signal} FROM signals s WHERE s.project_id = ?1 AND s.id = ?2

-- name: signals_pending
SELECT {signal} FROM (
  SELECT DISTINCT o.signal_id FROM signal_targets o INDEXED BY signal_targets_by_target
  WHERE o.project_id = ?1 AND o.target IN (SELECT value FROM json_each(?2)) AND o.sender_id <> ?3
    AND o.name >= ?5 AND o.name <= CASE ?5 WHEN '' THEN char(1114111) ELSE ?5 END -- a range: any name is one, too
    AND (?6 IS NULL OR o.sender_id IN (SELECT value FROM json_each(?6)))
    AND o.expires_at > ?4
    AND NOT EXISTS (
      SELECT 1 FROM acknowledgements a INDEXED BY acknowledgements_by_agent
      WHERE a.project_id = ?1 AND a.agent_id = ?3 AND a.signal_id = o.signal_id
    )
) AS t
CROSS JOIN signals s ON s.project_id = ?1 AND s.id = t.signal_id -- in this order: what is for others is never read
WHERE s.expires_at > ?4 AND s.withdrawn_at IS NULL
  AND s.id NOT IN (SELECT value FROM json_each(?8))
ORDER BY s.created_at, s.id LIMIT ?7

-- name: signals_waiting
SELECT count(*) FROM (
  SELECT DISTINCT o.signal_id FROM signal_targets o INDEXED BY signal_targets_by_sender
  WHERE o.project_id = ?1 AND o.sender_id = ?2 AND o.expires_at > ?3 LIMIT ?4
)

-- name: signal_withdraw
UPDATE signals SET withdrawn_at = ?3 WHERE project_id = ?1 AND id = ?2 AND withdrawn_at IS NULL

-- name: signal_acknowledge
INSERT INTO acknowledgements (
  project_id, signal_id, agent_id, at, sealed_codec, sealed_key_id, sealed_salt, body
) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: signal_acknowledgements
SELECT project_id, signal_id, agent_id, at, sealed_codec, sealed_key_id, sealed_salt, body
FROM acknowledgements WHERE project_id = ?1 AND signal_id = ?2 ORDER BY at, agent_id

-- name: signals_expired
SELECT id FROM signals INDEXED BY signals_by_end
WHERE project_id = ?1 AND expires_at <= ?2 ORDER BY expires_at, id LIMIT ?3

-- name: signals_delete
DELETE FROM signals WHERE project_id = ?1 AND id IN (SELECT value FROM json_each(?2))

-- name: signal_targets_delete
DELETE FROM signal_targets WHERE project_id = ?1 AND signal_id IN (SELECT value FROM json_each(?2))

-- name: signal_acknowledgements_delete
DELETE FROM acknowledgements WHERE project_id = ?1 AND signal_id IN (SELECT value FROM json_each(?2))

-- name: presence_seen
SELECT max(last_seen_at) FROM agents WHERE project_id = ?1 AND id IN (SELECT value FROM json_each(?2))

-- name: presence_in_sessions
SELECT
  max(CASE WHEN status NOT IN ('closed', 'expired') THEN updated_at END), -- others closed those
  max(CASE WHEN status = 'active' AND expires_at > ?3 THEN expires_at END),
  max(CASE WHEN status <> 'active' OR expires_at <= ?3 THEN coalesce(ended_at, expires_at) END)
FROM sessions INDEXED BY sessions_by_agent
WHERE project_id = ?1 AND agent_id IN (SELECT value FROM json_each(?2))
