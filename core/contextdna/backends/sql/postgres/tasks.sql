-- Tasks in order of work. Parameters 1 to 6 are those of a reader (fragments.sql).

-- fragment: task_wanted
-- 7 statuses (JSON array or null), 8 assignee (empty: any), 9 whether only ready ones
(
  {visible} AND {kept}
  AND ($7::text[] IS NULL OR r.type = ANY($7::text[]))
  AND ($8 = '' OR r.subject = $8)
  AND (NOT $9::boolean OR (r.type = 'open' AND NOT EXISTS (
    SELECT 1 FROM links l JOIN records d ON d.project_id = $1 AND d.id = l.target_id
    WHERE l.project_id = $1 AND l.source_id = r.id AND l.relation = 'depends_on'
      AND d.type <> 'done' AND d.deleted_at IS NULL AND (d.retention_until IS NULL OR d.retention_until > $6)
  )))
)

-- name: tasks_by_priority
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.project_id = r.project_id AND a.seq = r.seq
WHERE r.kind = 'task' AND {task_wanted}
  AND ($12 = '' OR (-r.importance, r.created_at, r.id) > (-$10::double precision, $11, $12))
ORDER BY r.importance DESC, r.created_at, r.id LIMIT $13

-- name: tasks_newest
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.project_id = r.project_id AND a.seq = r.seq
WHERE r.kind = 'task' AND {task_wanted}
  AND ($12 = '' OR (r.created_at, r.id) < ($11, $12)) AND $10::double precision IS NOT NULL
ORDER BY r.created_at DESC, r.id DESC LIMIT $13

-- name: tasks_in_the_way
SELECT l.source_id, l.target_id FROM links l JOIN records d ON d.project_id = l.project_id AND d.id = l.target_id
WHERE l.project_id = $1 AND l.source_id = ANY($2::text[])
  AND l.relation = 'depends_on' AND d.type <> 'done' AND d.deleted_at IS NULL
  AND (d.retention_until IS NULL OR d.retention_until > $3)
ORDER BY l.source_id, l.target_id

-- name: tasks_reach
-- UNION meets each task once, so the walk ends even where rows written by hand go round.
WITH RECURSIVE met (id) AS (
  SELECT unnest($2::text[]) COLLATE "C"
  UNION
  SELECT l.target_id FROM met JOIN links l ON l.project_id = $1 AND l.source_id = met.id
  WHERE l.relation = 'depends_on'
)
SELECT id FROM met LIMIT $3
