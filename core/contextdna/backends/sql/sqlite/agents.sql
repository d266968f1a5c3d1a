-- The directory of agents, and the history of each.

-- fragment: agent
project_id, id, team_id, swarm_id, role, first_seen_at, last_seen_at, agent_type, capabilities, status, confidence,
  registered_by, heartbeat_at, retired_at, placed, credential_role

-- name: agent_get
SELECT {agent} FROM agents WHERE project_id = ?1 AND id = ?2

-- name: agent_put
INSERT INTO agents ({agent}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project_id, id) DO UPDATE SET
  team_id = excluded.team_id, swarm_id = excluded.swarm_id, role = excluded.role, last_seen_at = excluded.last_seen_at,
  agent_type = excluded.agent_type, capabilities = excluded.capabilities, status = excluded.status,
  confidence = excluded.confidence, registered_by = excluded.registered_by, heartbeat_at = excluded.heartbeat_at,
  retired_at = excluded.retired_at, placed = excluded.placed, credential_role = excluded.credential_role

-- name: agent_is_retired
SELECT project_id, id FROM agents WHERE project_id = ?1 AND id = ?2 AND status = 'retired'

-- name: agents_page
SELECT {agent} FROM agents
WHERE project_id = ?1 AND id > ?2
  AND (?4 = '' OR agent_type = ?4)
  AND (?5 = '' OR instr(capabilities, json_quote(?5)) > 0)
  AND (?6 = '' OR status = ?6)
  AND (?7 IS NULL OR team_id = ?7)
  AND (?8 IS NULL OR swarm_id = ?8)
ORDER BY id LIMIT ?3

-- name: agents_counts
SELECT swarm_id, team_id, status, count(*) FROM agents WHERE project_id = ?1
GROUP BY swarm_id, team_id, status ORDER BY swarm_id, team_id, status

-- name: agents_in_session
SELECT DISTINCT agent_id FROM sessions INDEXED BY sessions_active
WHERE project_id = ?1 AND agent_id IN (SELECT value FROM json_each(?2)) AND status = 'active' AND expires_at > ?3

-- Parameter 3 is the time. Unknown where the agent never had a session.
-- fragment: left_since
(
  NOT EXISTS (
    SELECT 1 FROM sessions s INDEXED BY sessions_active
    WHERE s.project_id = a.project_id AND s.agent_id = a.id AND s.status = 'active' AND s.expires_at > ?3
  )
  AND a.last_seen_at <= (
    SELECT max(coalesce(s.ended_at, s.expires_at)) FROM sessions s INDEXED BY sessions_by_agent
    WHERE s.project_id = a.project_id AND s.agent_id = a.id
  )
)

-- name: agents_gone
SELECT a.id FROM agents a
WHERE a.project_id = ?1 AND a.id IN (SELECT value FROM json_each(?2)) AND (a.status = 'retired' OR {left_since})

-- fragment: in_circle
a.project_id = ?1 AND a.status <> 'retired' AND (?4 IS NULL OR a.team_id = ?4) AND (?5 IS NULL OR a.swarm_id = ?5)

-- Parameter 3 is the time. Whoever has begun the sessions that others work in.
-- fragment: hosts
SELECT principal_id FROM sessions INDEXED BY sessions_active
WHERE project_id = ?1 AND status = 'active' AND expires_at > ?3 AND principal_id <> agent_id

-- name: agents_at_work
SELECT a.id FROM agents a INDEXED BY agents_by_sight
WHERE {in_circle} AND a.last_seen_at > ?2 AND {left_since} IS NOT TRUE AND (a.heartbeat_at > ?2 OR a.id NOT IN ({hosts}))
UNION
SELECT a.id FROM agents a
WHERE {in_circle} AND a.id IN (
  SELECT agent_id FROM sessions INDEXED BY sessions_active
  WHERE project_id = ?1 AND status = 'active' AND expires_at > ?3
)
ORDER BY 1

-- name: agent_waiting_for
SELECT g.granted_by FROM grants g INDEXED BY grants_by_grantee
WHERE g.project_id = ?1 AND g.grantee_id = ?2 AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > ?3)
UNION
SELECT o.sender_id FROM signal_targets o INDEXED BY signal_targets_by_target
CROSS JOIN signals s ON s.project_id = ?1 AND s.id = o.signal_id
WHERE o.project_id = ?1 AND o.target = ?2 AND s.expires_at > ?3 AND s.withdrawn_at IS NULL

-- name: agent_entry_append
INSERT INTO agent_history (project_id, id, agent_id, at, what, by_agent_id, session_id, confidence, details)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: agent_entry_place
SELECT seq FROM agent_history WHERE project_id = ?1 AND id = ?2

-- Parameters 1 to 5 say who reads: project, agent id, swarm, whether role system, whether coordinator.
-- fragment: agent_entry
h.id, h.project_id, h.agent_id, h.at, h.what, h.by_agent_id, h.session_id, h.confidence, h.details, h.seq

-- fragment: known_agent_entry
h.project_id = ?1
  AND (
    ?4 OR h.agent_id = ?2 OR substr(h.agent_id, 1, length(?2) + 1) = ?2 || '/'
    OR ?5 AND EXISTS (
      SELECT 1 FROM agents a
      WHERE a.project_id = h.project_id AND a.id = h.agent_id AND a.role <> 'system' AND (?3 = '' OR a.swarm_id = ?3)
    )
  )
  AND (?6 IS NULL OR h.what IN (SELECT value FROM json_each(?6)))
  AND (?7 IS NULL OR h.at >= ?7)
  AND (?8 IS NULL OR h.at < ?8)

-- name: agent_history_forwards
SELECT {agent_entry} FROM agent_history h INDEXED BY agent_history_by_project
WHERE {known_agent_entry} AND h.seq > ?9 ORDER BY h.seq LIMIT ?10

-- name: agent_history_backwards
SELECT {agent_entry} FROM agent_history h INDEXED BY agent_history_by_project
WHERE {known_agent_entry} AND h.seq < ?9 ORDER BY h.seq DESC LIMIT ?10

-- name: agent_history_of_one_forwards
SELECT {agent_entry} FROM agent_history h INDEXED BY agent_history_by_agent
WHERE {known_agent_entry} AND h.agent_id = ?11 AND h.seq > ?9 ORDER BY h.seq LIMIT ?10

-- name: agent_history_of_one_backwards
SELECT {agent_entry} FROM agent_history h INDEXED BY agent_history_by_agent
WHERE {known_agent_entry} AND h.agent_id = ?11 AND h.seq < ?9 ORDER BY h.seq DESC LIMIT ?10

-- name: sessions_with_agent
SELECT {session} FROM sessions INDEXED BY sessions_active
WHERE project_id = ?1 AND status = 'active' AND instr(lineage, json_quote(?2)) > 0 ORDER BY id LIMIT ?3
