-- Signals and their acknowledgements.

-- fragment: signal
s.id, s.project_id, s.name, s.sender_id, s.session_id, s.audience, s.created_at, s.expires_at, s.withdrawn_at,
  s.sealed_codec, s.sealed_key_id, s.sealed_salt, s.body

-- name: signal_add
INSERT INTO signals (
  id, project_id, name, sender_id, session_id, audience, created_at, expires_at, withdrawn_at,
  sealed_codec, sealed_key_id, sealed_salt, body
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: signal_target_add
INSERT INTO signal_targets (project_id, signal_id, target, sender_id, name, expires_at) VALUES ($1, $2, $3, $4, $5, $6)

-- What waits for an agent is what has a row for it: what it was asked by name and has acknowledged has none.
-- name: signal_target_settle
DELETE FROM signal_targets WHERE project_id = $1 AND signal_id = $2 AND target = $3

-- name: signal_get
SELECT {signal} FROM signals s WHERE s.project_id = $1 AND s.id = $2

-- name: signals_pending
SELECT {signal} FROM (
  SELECT DISTINCT o.signal_id FROM signal_targets o
  WHERE o.project_id = $1 AND o.target = ANY($2::text[]) AND o.sender_id <> $3
    AND ($5 = '' OR o.name = $5)
    AND ($6::text[] IS NULL OR o.sender_id = ANY($6::text[]))
    AND o.expires_at > $4
    AND NOT EXISTS (
      SELECT 1 FROM acknowledgements a
      WHERE a.project_id = $1 AND a.agent_id = $3 AND a.signal_id = o.signal_id
    )
) AS t
JOIN signals s ON s.project_id = $1 AND s.id = t.signal_id
WHERE s.expires_at > $4 AND s.withdrawn_at IS NULL
  AND s.id <> ALL($8::text[])
ORDER BY s.created_at, s.id LIMIT $7

-- name: signals_waiting
SELECT count(*) FROM (
  SELECT DISTINCT o.signal_id FROM signal_targets o
  WHERE o.project_id = $1 AND o.sender_id = $2 AND o.expires_at > $3 LIMIT $4
) AS waiting

-- name: signal_withdraw
UPDATE signals SET withdrawn_at = $3 WHERE project_id = $1 AND id = $2 AND withdrawn_at IS NULL

-- name: signal_acknowledge
INSERT INTO acknowledgements (
  project_id, signal_id, agent_id, at, sealed_codec, sealed_key_id, sealed_salt, body
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING

-- name: signal_acknowledgements
SELECT project_id, signal_id, agent_id, at, sealed_codec, sealed_key_id, sealed_salt, body
FROM acknowledgements WHERE project_id = $1 AND signal_id = $2 ORDER BY at, agent_id

-- name: signals_expired
SELECT id FROM signals
WHERE project_id = $1 AND expires_at <= $2 ORDER BY expires_at, id LIMIT $3

-- name: signals_delete
DELETE FROM signals WHERE project_id = $1 AND id = ANY($2::text[])

-- name: signal_targets_delete
DELETE FROM signal_targets WHERE project_id = $1 AND signal_id = ANY($2::text[])

-- name: signal_acknowledgements_delete
DELETE FROM acknowledgements WHERE project_id = $1 AND signal_id = ANY($2::text[])

-- name: presence_seen
SELECT max(last_seen_at) FROM agents WHERE project_id = $1 AND id = ANY($2::text[])

-- name: presence_in_sessions
SELECT
  max(CASE WHEN status NOT IN ('closed', 'expired') THEN updated_at END), -- others closed those
  max(CASE WHEN status = 'active' AND expires_at > $3 THEN expires_at END),
  max(CASE WHEN status <> 'active' OR expires_at <= $3 THEN coalesce(ended_at, expires_at) END)
FROM sessions
WHERE project_id = $1 AND agent_id = ANY($2::text[])
