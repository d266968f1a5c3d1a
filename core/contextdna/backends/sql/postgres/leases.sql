-- Leases of jobs that one process does for all.

-- name: lease_put
INSERT INTO leases (project_id, name, holder, fencing, expires_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (project_id, name) DO UPDATE SET
  holder = excluded.holder, fencing = excluded.fencing, expires_at = excluded.expires_at

-- name: lease_get
SELECT project_id, name, holder, fencing, expires_at FROM leases WHERE project_id = $1 AND name = $2
