-- Records, their index and their links. Parameters 1 to 19 are those of fragments.sql where a reader or a filter is.

-- name: records_next_seqs
WITH RECURSIVE next (seq) AS (
  SELECT coalesce(max(seq), 0) + 1 FROM records UNION ALL SELECT seq + 1 FROM next LIMIT ?1
)
SELECT seq FROM next

-- name: record_insert
INSERT INTO records (
  id, project_id, kind, level, owner_id, team_id, swarm_id, session_id, type, tier, importance, position, subject,
  version, created_at, updated_at, valid_from, valid_to, superseded_by, retention_until, deleted_at, content_hash,
  tag_tokens, blob_key, sealed_codec, sealed_key_id, sealed_salt, body, seq, words, sketch
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: index_insert
-- 1 the project, which the index need not know: its tokens are keyed by it
INSERT INTO records_index (rowid, content) SELECT ?2, ?3 WHERE ?1 IS NOT NULL

-- fragment: replaced
  kind = ?3, level = ?4, owner_id = ?5, team_id = ?6, swarm_id = ?7, session_id = ?8, type = ?9, tier = ?10,
  importance = ?11, position = ?12, subject = ?13, version = ?14, created_at = ?15, updated_at = ?16, valid_from = ?17,
  valid_to = ?18, superseded_by = ?19, retention_until = ?20, deleted_at = ?21, content_hash = ?22, tag_tokens = ?23,
  blob_key = ?24, sealed_codec = ?25, sealed_key_id = ?26, sealed_salt = ?27, body = ?28

-- name: record_replace
UPDATE records SET
  {replaced}
WHERE project_id = ?2 AND id = ?1 AND version = ?29

-- name: record_replace_indexed
UPDATE records SET
  {replaced}, words = ?30, sketch = ?31
WHERE project_id = ?2 AND id = ?1 AND version = ?29

-- name: index_replace
UPDATE records_index SET content = ?3 WHERE rowid = (SELECT seq FROM records WHERE project_id = ?1 AND id = ?2)

-- name: index_delete
DELETE FROM records_index WHERE rowid IN (
  SELECT r.seq FROM records r WHERE r.project_id = ?1 AND r.id IN (SELECT value FROM json_each(?2))
)

-- name: access_delete
DELETE FROM record_access WHERE seq IN (
  SELECT r.seq FROM records r WHERE r.project_id = ?1 AND r.id IN (SELECT value FROM json_each(?2))
)

-- name: record_grants_delete
DELETE FROM grants INDEXED BY grants_by_record
WHERE project_id = ?1 AND record_id IN (SELECT value FROM json_each(?2))

-- name: record_links_delete
DELETE FROM links WHERE project_id = ?1 AND source_id IN (SELECT value FROM json_each(?2))

-- name: record_backlinks_delete
DELETE FROM links INDEXED BY links_by_target
WHERE project_id = ?1 AND target_id IN (SELECT value FROM json_each(?2))

-- name: record_delete
DELETE FROM records WHERE project_id = ?1 AND id IN (SELECT value FROM json_each(?2))

-- name: record_read
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.seq = r.seq
WHERE r.id = ?7 AND {visible} AND {kept}

-- name: records_read
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.seq = r.seq
WHERE r.id IN (SELECT value FROM json_each(?7)) AND {visible} AND {kept}

-- name: records_refs
SELECT {ref} FROM records r WHERE r.project_id = ?1 AND r.id IN (SELECT value FROM json_each(?2))

-- name: records_take
SELECT {record} FROM records r WHERE r.project_id = ?1 AND r.id IN (SELECT value FROM json_each(?2))

-- name: records_duplicates
SELECT {record} FROM records r INDEXED BY records_by_hash
WHERE r.project_id = ?1 AND r.content_hash IN (SELECT unhex(value) FROM json_each(?8)) AND {same_circle} AND {lasting}
ORDER BY r.seq

-- name: records_duplicates_of_one
SELECT {record} FROM records r INDEXED BY records_by_hash
WHERE r.project_id = ?1 AND r.content_hash = ?8 AND {same_circle} AND {lasting}
ORDER BY r.seq LIMIT 1

-- fragment: lasting
({kept} AND (r.valid_to IS NULL OR r.valid_to > ?7))

-- fragment: same_circle
(r.kind = ?2 AND r.owner_id = ?3 AND r.level = ?4 AND r.team_id = ?5 AND r.swarm_id = ?9)

-- name: records_recent
SELECT {candidate}
FROM records r INDEXED BY records_by_recency
WHERE r.created_at >= coalesce(?16, -(1 << 62)) AND r.created_at < coalesce(?17, 1 << 62) AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT ?20 OFFSET ?21

-- name: records_recent_of_artifacts
SELECT {candidate}
FROM records r INDEXED BY records_by_artifact
WHERE r.kind = 'artifact' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT ?20 OFFSET ?21

-- name: records_recent_of_loops
SELECT {candidate}
FROM records r INDEXED BY records_by_loop
WHERE r.kind = 'loop' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT ?20 OFFSET ?21

-- name: records_recent_of_tasks
SELECT {candidate}
FROM records r INDEXED BY records_by_task
WHERE r.kind = 'task' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT ?20 OFFSET ?21

-- name: records_moment
-- 2 since, 3 until (or null), 4 how many newer ones there are
SELECT r.created_at FROM records r INDEXED BY records_by_recency
WHERE r.project_id = ?1 AND r.created_at >= coalesce(?2, -(1 << 62)) AND r.created_at < coalesce(?3, 1 << 62)
ORDER BY r.created_at DESC LIMIT 1 OFFSET ?4

-- name: records_recent_of_session
SELECT {candidate}
FROM records r INDEXED BY records_by_session
WHERE r.session_id = ?14 AND r.session_id <> '' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT ?20 OFFSET ?21

-- name: records_recent_of_subject
SELECT {candidate}
FROM records r INDEXED BY records_by_subject
WHERE r.subject = ?15 AND r.subject <> '' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT ?20 OFFSET ?21

-- name: records_search
-- 22 the last seq to look at, 23 the one before the first, 24 the words.
-- The last that arrived first: FTS5 walks its lists in that order, so a common word costs no more than the limit.
SELECT {candidate}
FROM records_index f CROSS JOIN records r ON r.seq = f.rowid
WHERE f.records_index MATCH ?24 AND f.rowid <= ?22 AND f.rowid > ?23 AND {visible} AND {filtered}
ORDER BY f.rowid DESC LIMIT ?20 OFFSET ?21

-- name: records_arrival
-- 1 the project, which the index need not know, 2 how many later ones there are, 3 the words
SELECT f.rowid FROM records_index f WHERE f.records_index MATCH ?3 AND ?1 IS NOT NULL ORDER BY f.rowid DESC LIMIT 1 OFFSET ?2

-- name: records_candidates
SELECT {candidate} FROM records r WHERE r.id IN (SELECT value FROM json_each(?20)) AND {visible} AND {filtered}

-- name: records_neighbours
-- 20 the records beside which to look, 21 the most microseconds between memories. What is hidden has no place between
-- two neighbours; a long stretch of it ends the search. Of links the newest count, hidden ends among them.
-- Sorted by close.seq, as SQLite sees then that they are sorted already, and stops at the first one.
WITH source AS MATERIALIZED (
  SELECT s.seq, s.id, s.kind, s.owner_id, s.session_id, s.level, s.position, s.created_at
  FROM json_each(?20) AS wanted CROSS JOIN records s ON s.project_id = ?1 AND s.id = wanted.value
),
near (source_id, step, seq, created_at) AS (
  SELECT s.id, -1, ({memory_before}), s.created_at FROM source s WHERE s.kind = 'memory'
  UNION ALL
  SELECT s.id, -2, ({memory_before} OFFSET 1), s.created_at FROM source s WHERE s.kind = 'memory'
  UNION ALL
  SELECT s.id, 1, ({memory_after}), s.created_at FROM source s WHERE s.kind = 'memory'
  UNION ALL
  SELECT s.id, 2, ({memory_after} OFFSET 1), s.created_at FROM source s WHERE s.kind = 'memory'
  UNION ALL
  SELECT s.id, -1, ({turn_before}), NULL FROM source s WHERE s.kind = 'turn'
  UNION ALL
  SELECT s.id, -2, ({turn_before} OFFSET 1), NULL FROM source s WHERE s.kind = 'turn'
  UNION ALL
  SELECT s.id, 1, ({turn_after}), NULL FROM source s WHERE s.kind = 'turn'
  UNION ALL
  SELECT s.id, 2, ({turn_after} OFFSET 1), NULL FROM source s WHERE s.kind = 'turn'
  UNION ALL
  SELECT s.id, 0, linked.value, NULL FROM source s CROSS JOIN json_each(({linked_from})) AS linked
  UNION ALL
  SELECT s.id, 0, linked.value, NULL FROM source s CROSS JOIN json_each(({linked_to})) AS linked
)
SELECT near.source_id, near.step, {candidate}
FROM near CROSS JOIN records r ON r.seq = near.seq
WHERE (near.created_at IS NULL OR abs(r.created_at - near.created_at) <= ?21) AND {visible} AND {filtered}

-- fragment: memory_before
SELECT r.seq FROM (
  SELECT x.seq FROM records x INDEXED BY records_by_owner
  WHERE x.project_id = ?1 AND x.owner_id = s.owner_id AND x.session_id = s.session_id AND x.level = s.level
    AND x.kind = 'memory' AND x.seq < s.seq
  ORDER BY x.seq DESC LIMIT 50
) AS close CROSS JOIN records r ON r.seq = close.seq
WHERE {visible} AND {filtered} ORDER BY close.seq DESC LIMIT 1

-- fragment: memory_after
SELECT r.seq FROM (
  SELECT x.seq FROM records x INDEXED BY records_by_owner
  WHERE x.project_id = ?1 AND x.owner_id = s.owner_id AND x.session_id = s.session_id AND x.level = s.level
    AND x.kind = 'memory' AND x.seq > s.seq
  ORDER BY x.seq LIMIT 50
) AS close CROSS JOIN records r ON r.seq = close.seq
WHERE {visible} AND {filtered} ORDER BY close.seq LIMIT 1

-- fragment: turn_before
SELECT r.seq FROM records r INDEXED BY records_by_session
WHERE r.session_id = s.session_id AND r.session_id <> '' AND r.kind = 'turn'
  AND r.position BETWEEN s.position - 25 AND s.position - 1 AND {visible} AND {filtered}
ORDER BY r.position DESC LIMIT 1

-- fragment: turn_after
SELECT r.seq FROM records r INDEXED BY records_by_session
WHERE r.session_id = s.session_id AND r.session_id <> '' AND r.kind = 'turn'
  AND r.position BETWEEN s.position + 1 AND s.position + 25 AND {visible} AND {filtered}
ORDER BY r.position LIMIT 1

-- fragment: linked_from
SELECT json_group_array(newest.seq) FROM (
  SELECT t.seq FROM links l INDEXED BY links_by_age CROSS JOIN records t ON t.project_id = ?1 AND t.id = l.target_id
  WHERE l.project_id = ?1 AND l.source_id = s.id
  ORDER BY l.created_at DESC, l.target_id DESC, l.relation DESC LIMIT 50
) AS newest

-- fragment: linked_to
SELECT json_group_array(newest.seq) FROM (
  SELECT t.seq FROM links l INDEXED BY links_by_target CROSS JOIN records t ON t.project_id = ?1 AND t.id = l.source_id
  WHERE l.project_id = ?1 AND l.target_id = s.id
  ORDER BY l.created_at DESC, l.source_id DESC, l.relation DESC LIMIT 50
) AS newest

-- name: records_owned
SELECT {ref} FROM records r INDEXED BY records_by_owner
WHERE r.project_id = ?1 AND r.owner_id = ?2 AND {filtered}
ORDER BY r.importance DESC, r.created_at DESC, r.seq DESC LIMIT ?20

-- name: records_owned_in_session
SELECT {ref} FROM records r INDEXED BY records_by_session
WHERE r.project_id = ?1 AND r.session_id = ?14 AND r.session_id <> '' AND r.owner_id = ?2 AND {filtered}
ORDER BY r.importance DESC, r.created_at DESC, r.seq DESC LIMIT ?20

-- name: index_statistics
-- 2 phrases to count, 3 phrases to count unless the revision is 4; the first row is that of the project itself
SELECT '', coalesce(sum(records), 0), coalesce(sum(words), 0), coalesce(sum(revision), 0),
  coalesce((SELECT max(seq) FROM events INDEXED BY events_by_project WHERE project_id = ?1), 0)
FROM index_totals WHERE project_id = ?1
UNION ALL
SELECT phrase.value, (SELECT count(*) FROM records_index WHERE records_index MATCH phrase.value), 0, 0, 0
FROM json_each(?2) AS phrase
UNION ALL
SELECT phrase.value, (SELECT count(*) FROM records_index WHERE records_index MATCH phrase.value), 0, 0, 0
FROM json_each(CASE (SELECT revision FROM index_totals WHERE project_id = ?1) WHEN ?4 THEN '[]' ELSE ?3 END) AS phrase

-- name: totals_add
INSERT INTO index_totals (project_id, records, words, revision) VALUES (?, ?, ?, random())
ON CONFLICT (project_id) DO UPDATE
SET records = records + excluded.records, words = words + excluded.words, revision = excluded.revision

-- name: totals_recount
UPDATE index_totals SET revision = random(),
  words = words + ?3 - coalesce((SELECT words FROM records WHERE project_id = ?1 AND id = ?2), 0)
WHERE project_id = ?1 AND EXISTS (SELECT 1 FROM records WHERE project_id = ?1 AND id = ?2 AND version = ?4)

-- name: totals_remove
UPDATE index_totals SET
  revision = random(),
  records = records - (
    SELECT count(*) FROM records WHERE project_id = ?1 AND id IN (SELECT value FROM json_each(?2))
  ),
  words = words - (
    SELECT coalesce(sum(words), 0) FROM records WHERE project_id = ?1 AND id IN (SELECT value FROM json_each(?2))
  )
WHERE project_id = ?1

-- name: records_next_change
-- 1 project, 2 the reader's agent, 3 now
SELECT min(at) FROM (
  SELECT min(valid_from) AS at FROM records INDEXED BY records_by_begin WHERE project_id = ?1 AND valid_from > ?3
  UNION ALL
  SELECT min(valid_to) FROM records INDEXED BY records_by_end WHERE project_id = ?1 AND valid_to > ?3
  UNION ALL
  SELECT min(retention_until) FROM records INDEXED BY records_by_retention WHERE project_id = ?1 AND retention_until > ?3
  UNION ALL
  SELECT min(created_at) FROM records INDEXED BY records_by_recency WHERE project_id = ?1 AND created_at > ?3
  UNION ALL
  SELECT min(expires_at) FROM grants INDEXED BY grants_by_grantee
  WHERE project_id = ?1 AND grantee_id = ?2 AND expires_at > ?3
)

-- name: records_total
SELECT count(*) FROM records INDEXED BY records_by_recency WHERE project_id = ?1

-- name: records_visible_counts
-- 7 now, 8 since (or null)
SELECT r.kind, r.level, r.type, count(*) FROM records r INDEXED BY records_by_recency
WHERE r.created_at >= coalesce(?8, -(1 << 62)) AND {visible} AND {living} GROUP BY 1, 2, 3

-- name: tasks_visible_counts
SELECT r.type, count(*) FROM records r INDEXED BY records_by_task
WHERE r.kind = 'task' AND {visible} AND {living} GROUP BY 1

-- name: conversation
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r INDEXED BY records_by_session LEFT JOIN record_access a ON a.seq = r.seq
WHERE r.session_id = ?7 AND r.session_id <> '' AND r.kind = 'turn'
  AND r.position > ?8 AND r.position < ?9 AND {visible} AND {kept}
ORDER BY r.position, r.seq LIMIT ?10

-- name: conversation_backwards
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r INDEXED BY records_by_session LEFT JOIN record_access a ON a.seq = r.seq
WHERE r.session_id = ?7 AND r.session_id <> '' AND r.kind = 'turn'
  AND r.position > ?8 AND r.position < ?9 AND {visible} AND {kept}
ORDER BY r.position DESC, r.seq DESC LIMIT ?10

-- name: conversations
-- The agent is the owner of the first visible turn: the least of (position, seq, owner) as one text.
SELECT r.session_id, substr(min(printf('%020d%020d', r.position, r.seq) || r.owner_id), 41), count(*),
  min(r.created_at), max(r.created_at)
FROM records r INDEXED BY records_by_session
WHERE r.session_id <> '' AND r.kind = 'turn' AND {visible} AND {kept}
GROUP BY r.session_id
ORDER BY max(r.created_at) DESC, r.session_id DESC LIMIT ?7 OFFSET ?8

-- name: last_position_in_session
SELECT coalesce(max(position), 0) FROM records INDEXED BY records_by_session
WHERE project_id = ?1 AND kind = ?2 AND session_id = ?3 AND session_id <> ''

-- name: last_position_of_subject
SELECT coalesce(max(position), 0) FROM records INDEXED BY records_by_subject
WHERE project_id = ?1 AND kind = ?2 AND subject = ?3 AND subject <> ''

-- name: records_under_subject
SELECT {record} FROM records r INDEXED BY records_by_subject
WHERE r.project_id = ?1 AND r.subject = ?3 AND r.subject <> '' AND r.kind = ?2 AND r.position = ?4
  AND r.deleted_at IS NULL
ORDER BY r.created_at, r.seq

-- name: subjects
SELECT DISTINCT r.subject FROM records r INDEXED BY records_by_subject
WHERE r.subject <> '' AND r.kind = ?8 AND {visible} AND {living}
ORDER BY r.subject LIMIT ?9

-- name: records_mark_deleted
UPDATE records SET deleted_at = CASE WHEN ?3 IS NULL THEN NULL ELSE coalesce(deleted_at, ?3) END
WHERE project_id = ?1 AND id IN (SELECT value FROM json_each(?2))

-- name: record_touch
INSERT INTO record_access (seq, access_count, accessed_at)
SELECT seq, ?3, ?4 FROM records WHERE project_id = ?1 AND id = ?2
ON CONFLICT (seq) DO UPDATE SET
  access_count = access_count + excluded.access_count, accessed_at = max(accessed_at, excluded.accessed_at)

-- name: records_due
-- 2 now, 3 deleted before, 4 idle before; what is soft-deleted can be restored until its window is over
SELECT {record} FROM records r
WHERE r.seq IN (
  SELECT seq FROM records INDEXED BY records_by_retention
  WHERE project_id = ?1 AND retention_until IS NOT NULL AND retention_until <= ?2 AND deleted_at IS NULL
  UNION
  SELECT seq FROM records INDEXED BY records_by_deletion
  WHERE project_id = ?1 AND deleted_at IS NOT NULL AND deleted_at < ?3
  UNION
  SELECT i.seq FROM records i INDEXED BY records_by_idleness LEFT JOIN record_access a ON a.seq = i.seq
  WHERE i.project_id = ?1 AND i.tier IN ('working', 'episodic') AND i.updated_at < ?4
    AND i.deleted_at IS NULL
    AND (a.accessed_at IS NULL OR a.accessed_at < ?4)
)
ORDER BY r.seq LIMIT ?5

-- name: records_sealed_with_other_key
SELECT {record} FROM records r
WHERE r.seq IN (
  SELECT seq FROM records WHERE project_id = ?1 AND sealed_key_id <> '' AND sealed_key_id < ?2
    AND id NOT IN (SELECT value FROM json_each(?4))
  UNION ALL
  SELECT seq FROM records WHERE project_id = ?1 AND sealed_key_id <> '' AND sealed_key_id > ?2
    AND id NOT IN (SELECT value FROM json_each(?4))
  LIMIT ?3
)

-- name: record_reseal
UPDATE records SET sealed_codec = ?4, sealed_key_id = ?5, sealed_salt = ?6, body = ?7
WHERE project_id = ?1 AND id = ?2 AND version = ?3

-- name: blob_use
SELECT 1 FROM records WHERE blob_key = ?1 AND blob_key <> '' LIMIT 1

-- name: link_add
INSERT INTO links (project_id, source_id, target_id, relation, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING

-- name: link_remove
DELETE FROM links WHERE project_id = ?1 AND source_id = ?2 AND target_id = ?3 AND relation = ?4

-- name: links_of
SELECT project_id, source_id, target_id, relation, created_at FROM links
WHERE project_id = ?1 AND source_id IN (SELECT value FROM json_each(?2))
ORDER BY source_id, created_at, target_id, relation
