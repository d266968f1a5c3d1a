-- Loop records by time. Parameters 1 to 6 are those of a reader (fragments.sql).

-- fragment: loop_wanted
-- 7 phase (empty: any), 8 types (JSON array or null)
(
  r.project_id = $1 AND r.kind = 'loop' AND ($7 = '' OR r.subject = $7)
  AND ($8::text[] IS NULL OR r.type = ANY($8::text[])) AND {visible} AND {kept}
)

-- name: loops_oldest
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.project_id = r.project_id AND a.seq = r.seq
WHERE r.kind = 'loop' AND {loop_wanted} AND (
  $9 = '' OR (r.created_at, r.seq) > (SELECT b.created_at, b.seq FROM records b WHERE b.project_id = $1 AND b.id = $9)
)
ORDER BY r.created_at, r.seq LIMIT $10

-- name: loops_newest
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.project_id = r.project_id AND a.seq = r.seq
WHERE r.kind = 'loop' AND {loop_wanted} AND (
  $9 = '' OR (r.created_at, r.seq) < (SELECT b.created_at, b.seq FROM records b WHERE b.project_id = $1 AND b.id = $9)
)
ORDER BY r.created_at DESC, r.seq DESC LIMIT $10

-- name: loops_latest_iteration
SELECT coalesce(max(r.position), 0) FROM records r
WHERE r.subject = $7 AND r.subject <> '' AND r.kind = 'loop' AND {visible} AND {kept}

-- fragment: loop_counted
-- 7 phase, 8 iteration, 9 whether what the reader does not see counts too (0, 1)
(
  r.subject = $7 AND r.subject <> '' AND r.kind = 'loop' AND r.position = $8 AND r.project_id = $1
  AND r.deleted_at IS NULL AND ($9::boolean OR ({visible} AND {kept}))
)

-- name: loops_standing
SELECT {record} FROM records r
WHERE r.subject <> '' AND {loop_counted} AND NOT EXISTS (
  SELECT 1 FROM links l
  WHERE l.project_id = $1 AND l.target_id = r.id AND l.relation = 'supersedes' AND EXISTS (
    SELECT 1 FROM records r WHERE r.id = l.source_id AND {loop_counted} -- by key, as often as it is recorded anew
  )
)
ORDER BY r.seq

-- name: loops_count
SELECT count(*) FROM records r
WHERE r.project_id = $1 AND r.subject = $2 AND r.subject <> '' AND r.kind = 'loop' AND r.position = $3
  AND r.owner_id = $4 AND r.deleted_at IS NULL

-- name: loops_superseding
SELECT l.target_id, r.id FROM links l
JOIN records r ON r.project_id = l.project_id AND r.id = l.source_id
WHERE l.project_id = $1 AND l.target_id = ANY($7::text[]) AND l.relation = 'supersedes'
  AND r.kind = 'loop' AND {visible} AND {kept}
ORDER BY r.seq DESC

-- name: loops_references
SELECT l.project_id, l.source_id, l.target_id, l.relation, l.created_at FROM links l
JOIN records r ON r.project_id = l.project_id AND r.id = l.target_id
WHERE l.project_id = $1 AND l.source_id = ANY($7::text[]) AND {visible} AND {kept}
ORDER BY l.source_id, r.seq, l.relation
