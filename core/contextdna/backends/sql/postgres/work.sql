-- Projects, agents, sessions, delegations, grants.

-- name: project_add
INSERT INTO projects (id, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: project_get
SELECT id, created_at FROM projects WHERE id = $1

-- name: projects_all
SELECT id, created_at FROM projects ORDER BY id

-- name: agent_see
INSERT INTO agents (project_id, id, team_id, swarm_id, role, first_seen_at, last_seen_at, credential_role)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (project_id, id) DO UPDATE SET
  team_id = excluded.team_id, swarm_id = excluded.swarm_id, last_seen_at = excluded.last_seen_at,
  credential_role = coalesce(nullif(excluded.credential_role, ''), agents.credential_role),
  role = greatest(agents.role, excluded.role) -- the names of the roles sort by rank

-- name: agent_touch
UPDATE agents SET last_seen_at = $3 WHERE project_id = $1 AND id = $2 AND last_seen_at < $3

-- name: agents_all
SELECT {agent} FROM agents WHERE project_id = $1 ORDER BY id

-- name: agents_named
SELECT {agent} FROM agents
WHERE project_id = $1 AND id = ANY($2::text[]) ORDER BY id

-- fragment: session
id, project_id, secret_digest, agent_id, team_id, swarm_id, role, principal_id, lineage, parent_id, delegation_id,
status, created_at, updated_at, expires_at, ended_at, sealed_codec, sealed_key_id, sealed_salt, body, thoughts,
state_version

-- fragment: delegation
id, project_id, parent_session_id, child_session_id, parent_agent_id, child_agent_id, depth, status, created_at,
expires_at, accepted_at, ended_at, result_ids

-- fragment: grant
id, project_id, record_id, grantee_id, granted_by, created_at, expires_at, revoked_at, delegation_id, rests_on,
assignment

-- name: session_add
INSERT INTO sessions ({session}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)

-- name: session_get
SELECT {session} FROM sessions WHERE id = $1

-- name: sessions_below
SELECT {session} FROM sessions
WHERE parent_id = $1 AND parent_id <> '' AND status = 'active' ORDER BY id

-- name: sessions_around
WITH RECURSIVE
  above (id, parent_id) AS (
    SELECT id, parent_id FROM sessions WHERE id = $1
    UNION ALL
    SELECT s.id, s.parent_id FROM above JOIN sessions s ON s.id = above.parent_id WHERE above.parent_id <> ''
  ),
  tree (id) AS (
    SELECT id FROM above WHERE parent_id = ''
    UNION ALL
    SELECT s.id FROM tree JOIN sessions s
      ON s.parent_id = tree.id AND s.parent_id <> '' AND s.status = 'active'
  )
SELECT count(*) FROM (SELECT 1 FROM tree LIMIT $2) AS counted

-- Names hold no quotes: a quoted one within a lineage is that agent's.
-- name: sessions_find
SELECT {session} FROM sessions
WHERE project_id = $1
  AND ($2 = '' OR agent_id = $2)
  AND ($3 = '' OR lineage ? $3 OR ($4 <> '' AND swarm_id = $4 AND role <> 'system'))
  AND ($5 = '' OR CASE WHEN status = 'active' AND expires_at <= $7 THEN 'expired' ELSE status END = $5)
  AND ($6 = '' OR id < $6)
ORDER BY id DESC LIMIT $8

-- name: sessions_overdue
SELECT {session} FROM sessions
WHERE project_id = $1 AND status = 'active' AND expires_at <= $2 ORDER BY expires_at, id LIMIT $3

-- name: session_replace
UPDATE sessions SET
  secret_digest = $3, agent_id = $4, team_id = $5, swarm_id = $6, role = $7, principal_id = $8, lineage = $9,
  parent_id = $10, delegation_id = $11, status = $12, created_at = $13, updated_at = $14, expires_at = $15,
  ended_at = $16, sealed_codec = $17, sealed_key_id = $18, sealed_salt = $19, body = $20, thoughts = $21,
  state_version = $22
WHERE project_id = $2 AND id = $1

-- name: delegation_add
INSERT INTO delegations ({delegation}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: delegation_get
SELECT {delegation} FROM delegations WHERE id = $1

-- An agent's own and those of agents below it stand in one range: paths go on with a slash, which 0 follows.
-- name: delegations_find
SELECT {delegation} FROM delegations
WHERE project_id = $1
  AND (
    $2 = ''
    OR ($3 <> 'received' AND (parent_agent_id = $2 OR (parent_agent_id > $2 || '/' AND parent_agent_id < $2 || '0')))
    OR ($3 <> 'received' AND child_agent_id <> $2 AND EXISTS (
      SELECT 1 FROM sessions s
      WHERE s.project_id = $1 AND s.id = child_session_id AND s.lineage ? $2
    ))
    OR ($3 <> 'given' AND child_agent_id = $2)
  )
  AND (
    $4 = ''
    OR CASE WHEN status IN ('pending', 'accepted') AND expires_at <= $6 THEN 'expired' ELSE status END = $4
  )
  AND ($5 = '' OR id < $5)
ORDER BY id DESC LIMIT $7

-- name: delegation_replace
UPDATE delegations SET
  parent_session_id = $3, child_session_id = $4, parent_agent_id = $5, child_agent_id = $6, depth = $7, status = $8,
  created_at = $9, expires_at = $10, accepted_at = $11, ended_at = $12, result_ids = $13
WHERE project_id = $2 AND id = $1

-- name: grant_add
INSERT INTO grants ({grant}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: grants_active_for
SELECT {grant} FROM grants
WHERE project_id = $1 AND record_id = ANY($2::text[]) AND grantee_id = $3
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)
ORDER BY id

-- name: grants_given
SELECT {grant} FROM grants
WHERE project_id = $1 AND grantee_id = ANY($2::text[]) AND granted_by = $3
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)
ORDER BY id

-- name: grants_on_records
SELECT {grant} FROM grants
WHERE project_id = $1 AND record_id = ANY($2::text[])
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)
ORDER BY id

-- name: grants_revoke
WITH RECURSIVE ended (id) AS (
  SELECT unnest($2::text[]) COLLATE "C"
  UNION
  SELECT g.id FROM ended JOIN grants g
    ON g.project_id = $1 AND g.rests_on = ended.id AND g.rests_on <> ''
)
UPDATE grants SET revoked_at = $3
WHERE project_id = $1 AND id IN (SELECT id FROM ended)
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)

-- name: grants_revoke_delegation
WITH RECURSIVE ended (id) AS (
  SELECT id FROM grants
  WHERE project_id = $1 AND delegation_id = $2 AND delegation_id <> ''
  UNION
  SELECT g.id FROM ended JOIN grants g
    ON g.project_id = $1 AND g.rests_on = ended.id AND g.rests_on <> ''
)
UPDATE grants SET revoked_at = $3
WHERE project_id = $1 AND id IN (SELECT id FROM ended)
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)

-- name: grants_delete_ended
DELETE FROM grants WHERE project_id = $1 AND id IN (
  SELECT id FROM grants WHERE project_id = $1 AND (revoked_at < $2 OR expires_at < $2) ORDER BY id LIMIT $3
)
