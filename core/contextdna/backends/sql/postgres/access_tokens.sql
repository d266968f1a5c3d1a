-- The installation's own credentials. No statement compares a secret: that is done in constant time, outside.

-- name: access_token_add
INSERT INTO access_tokens (
  id, agent_id, project_ids, team_id, swarm_id, role, scopes, label, created_at, created_by, expires_at, revoked_at,
  last_used_at, secret_digest, seal
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: access_token_get
SELECT id, agent_id, project_ids, team_id, swarm_id, role, scopes, label, created_at, created_by, expires_at, revoked_at,
  last_used_at, secret_digest, seal
FROM access_tokens WHERE id = $1

-- name: access_tokens_page
SELECT id, agent_id, project_ids, team_id, swarm_id, role, scopes, label, created_at, created_by, expires_at, revoked_at,
  last_used_at, secret_digest, seal
FROM access_tokens WHERE id > $1 ORDER BY id LIMIT $2

-- name: access_token_revoke
UPDATE access_tokens SET revoked_at = $2, seal = $3 WHERE id = $1 AND revoked_at IS NULL

-- name: access_token_note_use
UPDATE access_tokens SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)
