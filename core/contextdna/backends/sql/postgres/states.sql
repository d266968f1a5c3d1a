-- The working state of sessions.

-- name: state_put
INSERT INTO session_states (
  project_id, session_id, key, version, updated_at, expires_at, sealed_codec, sealed_key_id, sealed_salt, body
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (project_id, session_id, key) DO UPDATE SET
  version = excluded.version, updated_at = excluded.updated_at, expires_at = excluded.expires_at,
  sealed_codec = excluded.sealed_codec, sealed_key_id = excluded.sealed_key_id, sealed_salt = excluded.sealed_salt,
  body = excluded.body

-- name: states_of
SELECT project_id, session_id, key, version, updated_at, expires_at, sealed_codec, sealed_key_id, sealed_salt, body
FROM session_states WHERE project_id = $1 AND session_id = $2 ORDER BY key

-- name: states_delete
DELETE FROM session_states
WHERE project_id = $1 AND session_id = $2 AND key = ANY($3::text[])

-- name: states_delete_of
DELETE FROM session_states WHERE project_id = $1 AND session_id = ANY($2::text[])

-- name: states_delete_expired
DELETE FROM session_states WHERE project_id = $1 AND (project_id, session_id, key) IN (
  SELECT project_id, session_id, key FROM session_states
  WHERE project_id = $1 AND expires_at <= $2 ORDER BY expires_at LIMIT $3
)
