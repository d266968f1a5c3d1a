-- Records, their index and their links. Parameters 1 to 19 are those of fragments.sql where a reader or a filter is.

-- name: records_next_seqs
SELECT nextval('record_places') FROM generate_series(1, $1::integer)

-- name: record_insert
INSERT INTO records (
  id, project_id, kind, level, owner_id, team_id, swarm_id, session_id, type, tier, importance, position, subject,
  version, created_at, updated_at, valid_from, valid_to, superseded_by, retention_until, deleted_at, content_hash,
  tag_tokens, blob_key, sealed_codec, sealed_key_id, sealed_salt, body, seq, words, sketch
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)

-- name: index_insert
INSERT INTO records_index (project_id, seq, content) VALUES ($1, $2, $3)

-- fragment: replaced
  kind = $3, level = $4, owner_id = $5, team_id = $6, swarm_id = $7, session_id = $8, type = $9, tier = $10,
  importance = $11, position = $12, subject = $13, version = $14, created_at = $15, updated_at = $16, valid_from = $17,
  valid_to = $18, superseded_by = $19, retention_until = $20, deleted_at = $21, content_hash = $22, tag_tokens = $23,
  blob_key = $24, sealed_codec = $25, sealed_key_id = $26, sealed_salt = $27, body = $28

-- name: record_replace
UPDATE records SET
  {replaced}
WHERE project_id = $2 AND id = $1 AND version = $29

-- name: record_replace_indexed
UPDATE records SET
  {replaced}, words = $30, sketch = $31
WHERE project_id = $2 AND id = $1 AND version = $29

-- name: index_replace
UPDATE records_index SET content = $3
WHERE project_id = $1 AND seq = (SELECT seq FROM records WHERE project_id = $1 AND id = $2)

-- name: index_delete
DELETE FROM records_index WHERE project_id = $1 AND seq IN (
  SELECT r.seq FROM records r WHERE r.project_id = $1 AND r.id = ANY($2::text[])
)

-- name: access_delete
DELETE FROM record_access WHERE project_id = $1 AND seq IN (
  SELECT r.seq FROM records r WHERE r.project_id = $1 AND r.id = ANY($2::text[])
)

-- name: record_grants_delete
DELETE FROM grants
WHERE project_id = $1 AND record_id = ANY($2::text[])

-- name: record_links_delete
DELETE FROM links WHERE project_id = $1 AND source_id = ANY($2::text[])

-- name: record_backlinks_delete
DELETE FROM links
WHERE project_id = $1 AND target_id = ANY($2::text[])

-- name: record_delete
DELETE FROM records WHERE project_id = $1 AND id = ANY($2::text[])

-- name: record_read
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.project_id = r.project_id AND a.seq = r.seq
WHERE r.id = $7 AND {visible} AND {kept}

-- name: records_read
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.project_id = r.project_id AND a.seq = r.seq
WHERE r.id = ANY($7::text[]) AND {visible} AND {kept}

-- name: records_refs
SELECT {ref} FROM records r WHERE r.project_id = $1 AND r.id = ANY($2::text[])

-- name: records_take
SELECT {record} FROM records r WHERE r.project_id = $1 AND r.id = ANY($2::text[])

-- name: records_duplicates
SELECT {record} FROM records r
WHERE r.project_id = $1 AND r.content_hash = ANY(ARRAY(SELECT decode(given, 'hex') FROM unnest($8::text[]) AS given))
  AND {same_circle} AND {lasting}
ORDER BY r.seq

-- name: records_duplicates_of_one
SELECT {record} FROM records r
WHERE r.project_id = $1 AND r.content_hash = $8 AND {same_circle} AND {lasting}
ORDER BY r.seq LIMIT 1

-- fragment: lasting
({kept} AND (r.valid_to IS NULL OR r.valid_to > $7))

-- As one row: the hash says most, and before there are statistics the planner would take an index of owners instead.
-- fragment: same_circle
ROW(r.kind, r.owner_id, r.level, r.team_id, r.swarm_id)
  IS NOT DISTINCT FROM ROW($2::text, $3::text, $4::smallint, $5::text, $9::text)

-- name: records_recent
SELECT {candidate}
FROM records r
WHERE {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT $20 OFFSET $21

-- name: records_recent_of_artifacts
SELECT {candidate}
FROM records r
WHERE r.kind = 'artifact' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT $20 OFFSET $21

-- name: records_recent_of_loops
SELECT {candidate}
FROM records r
WHERE r.kind = 'loop' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT $20 OFFSET $21

-- name: records_recent_of_tasks
SELECT {candidate}
FROM records r
WHERE r.kind = 'task' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT $20 OFFSET $21

-- name: records_moment
-- 2 since, 3 until (or null), 4 how many newer ones there are
SELECT r.created_at FROM records r
WHERE r.project_id = $1 AND ($2::timestamptz IS NULL OR r.created_at >= $2) AND ($3::timestamptz IS NULL OR r.created_at < $3)
ORDER BY r.created_at DESC LIMIT 1 OFFSET $4

-- name: records_recent_of_session
SELECT {candidate}
FROM records r
WHERE r.session_id = $14 AND r.session_id <> '' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT $20 OFFSET $21

-- name: records_recent_of_subject
SELECT {candidate}
FROM records r
WHERE r.subject = $15 AND r.subject <> '' AND {visible} AND {filtered}
ORDER BY r.created_at DESC, r.seq DESC LIMIT $20 OFFSET $21

-- name: records_search
-- 22 the last seq to look at, 23 the one before the first, 24 the words, 25 the phrases among them as JSON, or null. The last that arrived first. What matches is found by the
-- words alone before anything else is looked at: the planner must not walk all records instead.
WITH found AS MATERIALIZED (
  SELECT i.seq FROM records_index i
  WHERE {of_project} AND i.seq + 0 <= $22 AND i.seq + 0 > $23 AND array_to_tsvector(string_to_array(i.content, ' ')) @@ $24::tsquery
    AND ($25::jsonb IS NULL OR holds_phrases(i.content, $25::jsonb))
)
SELECT {candidate}
FROM found JOIN records r ON r.project_id = $1 AND r.seq = found.seq
WHERE {visible} AND {filtered}
ORDER BY r.seq DESC LIMIT $20 OFFSET $21

-- Tokens are of one project each, so what they find is. Written so that no index serves it: else all rows of the project are
-- walked, too, to keep of what was found what is there.
-- fragment: of_project
(i.project_id = $1) IS TRUE

-- name: records_arrival
-- 2 how many later ones there are, 3 the words, 4 the phrases among them as JSON, or null
SELECT i.seq FROM records_index i
WHERE {of_project} AND array_to_tsvector(string_to_array(i.content, ' ')) @@ $3::tsquery
  AND ($4::jsonb IS NULL OR holds_phrases(i.content, $4::jsonb))
ORDER BY i.seq DESC LIMIT 1 OFFSET $2

-- name: records_candidates
SELECT {candidate} FROM records r WHERE r.id = ANY($20::text[]) AND {visible} AND {filtered}

-- name: records_neighbours
-- 20 the records beside which to look, 21 the most microseconds between memories. What is hidden has no place between
-- two neighbours; a long stretch of it ends the search. Of links the newest count, hidden ends among them.
-- Materialised: a planner that expects few rows would work all of it out anew for each record of the project.
WITH source AS MATERIALIZED (
  SELECT s.seq, s.id, s.kind, s.owner_id, s.session_id, s.level, s.position, s.created_at
  FROM records s WHERE s.project_id = $1 AND s.id = ANY($20::text[])
),
near (source_id, step, seq, created_at) AS MATERIALIZED (
  SELECT s.id, -1, ({memory_before}), s.created_at FROM source s WHERE s.kind = 'memory'
  UNION ALL
  SELECT s.id, -2, ({memory_before} OFFSET 1), s.created_at FROM source s WHERE s.kind = 'memory'
  UNION ALL
  SELECT s.id, 1, ({memory_after}), s.created_at FROM source s WHERE s.kind = 'memory'
  UNION ALL
  SELECT s.id, 2, ({memory_after} OFFSET 1), s.created_at FROM source s WHERE s.kind = 'memory'
  UNION ALL
  SELECT s.id, -1, ({turn_before}), NULL::timestamptz FROM source s WHERE s.kind = 'turn'
  UNION ALL
  SELECT s.id, -2, ({turn_before} OFFSET 1), NULL FROM source s WHERE s.kind = 'turn'
  UNION ALL
  SELECT s.id, 1, ({turn_after}), NULL FROM source s WHERE s.kind = 'turn'
  UNION ALL
  SELECT s.id, 2, ({turn_after} OFFSET 1), NULL FROM source s WHERE s.kind = 'turn'
  UNION ALL
  SELECT s.id, 0, linked.seq, NULL FROM source s CROSS JOIN LATERAL ({linked_from}) AS linked
  UNION ALL
  SELECT s.id, 0, linked.seq, NULL FROM source s CROSS JOIN LATERAL ({linked_to}) AS linked
)
SELECT near.source_id, near.step, {candidate}
FROM near JOIN records r ON r.project_id = $1 AND r.seq = near.seq
WHERE {visible} AND {filtered} AND (
  near.created_at IS NULL
  OR r.created_at BETWEEN near.created_at - $21::bigint * interval '1 microsecond'
    AND near.created_at + $21::bigint * interval '1 microsecond'
)

-- fragment: memory_before
SELECT r.seq FROM (
  SELECT x.seq FROM records x
  WHERE x.project_id = $1 AND x.owner_id = s.owner_id AND x.session_id = s.session_id AND x.level = s.level
    AND x.kind = 'memory' AND x.seq < s.seq
  ORDER BY x.seq DESC LIMIT 50
) AS close JOIN records r ON r.project_id = $1 AND r.seq = close.seq
WHERE {visible} AND {filtered} ORDER BY r.seq DESC LIMIT 1

-- fragment: memory_after
SELECT r.seq FROM (
  SELECT x.seq FROM records x
  WHERE x.project_id = $1 AND x.owner_id = s.owner_id AND x.session_id = s.session_id AND x.level = s.level
    AND x.kind = 'memory' AND x.seq > s.seq
  ORDER BY x.seq LIMIT 50
) AS close JOIN records r ON r.project_id = $1 AND r.seq = close.seq
WHERE {visible} AND {filtered} ORDER BY r.seq LIMIT 1

-- fragment: turn_before
SELECT r.seq FROM records r
WHERE r.session_id = s.session_id AND r.session_id <> '' AND r.kind = 'turn'
  AND r.position BETWEEN s.position - 25 AND s.position - 1 AND {visible} AND {filtered}
ORDER BY r.position DESC LIMIT 1

-- fragment: turn_after
SELECT r.seq FROM records r
WHERE r.session_id = s.session_id AND r.session_id <> '' AND r.kind = 'turn'
  AND r.position BETWEEN s.position + 1 AND s.position + 25 AND {visible} AND {filtered}
ORDER BY r.position LIMIT 1

-- fragment: linked_from
SELECT t.seq FROM links l JOIN records t ON t.project_id = $1 AND t.id = l.target_id
WHERE l.project_id = $1 AND l.source_id = s.id
ORDER BY l.created_at DESC, l.target_id DESC, l.relation DESC LIMIT 50

-- fragment: linked_to
SELECT t.seq FROM links l JOIN records t ON t.project_id = $1 AND t.id = l.source_id
WHERE l.project_id = $1 AND l.target_id = s.id
ORDER BY l.created_at DESC, l.source_id DESC, l.relation DESC LIMIT 50

-- Every parameter that a statement is given has to stand in it.
-- fragment: rest_of_reader
num_nulls($3::text, $4::text, $5::boolean) = 0

-- name: records_owned
SELECT {ref} FROM records r
WHERE r.project_id = $1 AND r.owner_id = $2 AND {filtered}
  AND {rest_of_reader}
ORDER BY r.importance DESC, r.created_at DESC, r.seq DESC LIMIT $20

-- name: records_owned_in_session
SELECT {ref} FROM records r
WHERE r.project_id = $1 AND r.session_id = $14 AND r.session_id <> '' AND r.owner_id = $2 AND {filtered}
  AND {rest_of_reader}
ORDER BY r.importance DESC, r.created_at DESC, r.seq DESC LIMIT $20

-- name: index_statistics
-- 2 phrases to count, 3 phrases to count unless the revision is 4; the first row is that of the project itself
SELECT '', coalesce(sum(records), 0)::bigint, coalesce(sum(words), 0)::bigint, coalesce(sum(revision), 0)::bigint,
  coalesce((SELECT max(seq) FROM events WHERE project_id = $1), 0)
FROM index_totals WHERE project_id = $1
UNION ALL
SELECT phrase, ({holding}), 0, 0, 0 FROM unnest($2::text[]) AS phrase
UNION ALL
SELECT phrase, ({holding}), 0, 0, 0 FROM unnest(
  CASE (SELECT revision FROM index_totals WHERE project_id = $1) WHEN $4::bigint THEN '{}'::text[] ELSE $3::text[] END
) AS phrase

-- A phrase comes in quotation marks, its tokens parted by blanks.
-- fragment: holding
SELECT count(*) FROM records_index i
WHERE {of_project}
  AND array_to_tsvector(string_to_array(i.content, ' ')) @@ replace(btrim(phrase, '"'), ' ', ' & ')::tsquery
  AND (strpos(phrase, ' ') = 0 OR strpos(' ' || i.content || ' ', ' ' || btrim(phrase, '"') || ' ') > 0)

-- fragment: by_chance
floor(random() * 9007199254740992)::bigint + 1

-- name: totals_add
INSERT INTO index_totals (project_id, records, words, revision) VALUES ($1, $2, $3, {by_chance})
ON CONFLICT (project_id) DO UPDATE SET
  records = index_totals.records + excluded.records, words = index_totals.words + excluded.words,
  revision = excluded.revision

-- name: totals_recount
UPDATE index_totals SET revision = {by_chance},
  words = words + $3::integer - coalesce((SELECT words FROM records WHERE project_id = $1 AND id = $2), 0)
WHERE project_id = $1 AND EXISTS (SELECT 1 FROM records WHERE project_id = $1 AND id = $2 AND version = $4)

-- name: totals_remove
UPDATE index_totals SET
  revision = {by_chance},
  records = records - (
    SELECT count(*) FROM records WHERE project_id = $1 AND id = ANY($2::text[])
  ),
  words = words - (
    SELECT coalesce(sum(words), 0) FROM records WHERE project_id = $1 AND id = ANY($2::text[])
  )
WHERE project_id = $1

-- name: records_next_change
-- 1 project, 2 the reader's agent, 3 now
SELECT min(at) FROM (
  SELECT min(valid_from) AS at FROM records WHERE project_id = $1 AND valid_from > $3
  UNION ALL
  SELECT min(valid_to) FROM records WHERE project_id = $1 AND valid_to > $3
  UNION ALL
  SELECT min(retention_until) FROM records WHERE project_id = $1 AND retention_until > $3
  UNION ALL
  SELECT min(created_at) FROM records WHERE project_id = $1 AND created_at > $3
  UNION ALL
  SELECT min(expires_at) FROM grants
  WHERE project_id = $1 AND grantee_id = $2 AND expires_at > $3
) AS changes

-- name: records_total
SELECT count(*) FROM records WHERE project_id = $1

-- name: records_visible_counts
-- 7 now, 8 since (or null)
SELECT r.kind, r.level, r.type, count(*) FROM records r
WHERE ($8::timestamptz IS NULL OR r.created_at >= $8) AND {visible} AND {living} GROUP BY 1, 2, 3

-- name: tasks_visible_counts
SELECT r.type, count(*) FROM records r WHERE r.kind = 'task' AND {visible} AND {living} GROUP BY 1

-- name: conversation
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.project_id = r.project_id AND a.seq = r.seq
WHERE r.session_id = $7 AND r.session_id <> '' AND r.kind = 'turn'
  AND r.position > $8 AND r.position < $9 AND {visible} AND {kept}
ORDER BY r.position, r.seq LIMIT $10

-- name: conversation_backwards
SELECT {record}, {granted_by}, coalesce(a.access_count, 0)
FROM records r LEFT JOIN record_access a ON a.project_id = r.project_id AND a.seq = r.seq
WHERE r.session_id = $7 AND r.session_id <> '' AND r.kind = 'turn'
  AND r.position > $8 AND r.position < $9 AND {visible} AND {kept}
ORDER BY r.position DESC, r.seq DESC LIMIT $10

-- name: conversations
-- The agent is the owner of the first visible turn.
SELECT r.session_id, (array_agg(r.owner_id ORDER BY r.position, r.seq))[1], count(*),
  min(r.created_at), max(r.created_at)
FROM records r
WHERE r.session_id <> '' AND r.kind = 'turn' AND {visible} AND {kept}
GROUP BY r.session_id
ORDER BY max(r.created_at) DESC, r.session_id DESC LIMIT $7 OFFSET $8

-- name: last_position_in_session
SELECT coalesce(max(position), 0) FROM records
WHERE project_id = $1 AND kind = $2 AND session_id = $3 AND session_id <> ''

-- name: last_position_of_subject
SELECT coalesce(max(position), 0) FROM records
WHERE project_id = $1 AND kind = $2 AND subject = $3 AND subject <> ''

-- name: records_under_subject
SELECT {record} FROM records r
WHERE r.project_id = $1 AND r.subject = $3 AND r.subject <> '' AND r.kind = $2 AND r.position = $4
  AND r.deleted_at IS NULL
ORDER BY r.created_at, r.seq

-- name: subjects
SELECT DISTINCT r.subject FROM records r
WHERE r.subject <> '' AND r.kind = $8 AND {visible} AND {living}
ORDER BY r.subject LIMIT $9

-- name: records_mark_deleted
UPDATE records SET deleted_at = CASE WHEN $3::timestamptz IS NULL THEN NULL ELSE coalesce(deleted_at, $3::timestamptz) END
WHERE project_id = $1 AND id = ANY($2::text[])

-- name: record_touch
INSERT INTO record_access (project_id, seq, access_count, accessed_at)
SELECT project_id, seq, $3::bigint, $4::timestamptz FROM records WHERE project_id = $1 AND id = $2
ON CONFLICT (project_id, seq) DO UPDATE SET
  access_count = record_access.access_count + excluded.access_count,
  accessed_at = greatest(record_access.accessed_at, excluded.accessed_at)

-- name: records_due
-- 2 now, 3 deleted before, 4 idle before; what is soft-deleted can be restored until its window is over
SELECT {record} FROM records r
WHERE r.project_id = $1 AND r.seq IN (
  SELECT seq FROM records
  WHERE project_id = $1 AND retention_until IS NOT NULL AND retention_until <= $2 AND deleted_at IS NULL
  UNION
  SELECT seq FROM records
  WHERE project_id = $1 AND deleted_at IS NOT NULL AND deleted_at < $3
  UNION
  SELECT i.seq FROM records i LEFT JOIN record_access a ON a.project_id = i.project_id AND a.seq = i.seq
  WHERE i.project_id = $1 AND i.tier IN ('working', 'episodic') AND i.updated_at < $4
    AND i.deleted_at IS NULL
    AND (a.accessed_at IS NULL OR a.accessed_at < $4)
)
ORDER BY r.seq LIMIT $5

-- name: records_sealed_with_other_key
SELECT {record} FROM records r
WHERE r.project_id = $1 AND r.seq IN (
  SELECT seq FROM records WHERE project_id = $1 AND sealed_key_id <> '' AND sealed_key_id < $2
    AND id <> ALL($4::text[])
  UNION ALL
  SELECT seq FROM records WHERE project_id = $1 AND sealed_key_id <> '' AND sealed_key_id > $2
    AND id <> ALL($4::text[])
  LIMIT $3
)

-- name: record_reseal
UPDATE records SET sealed_codec = $4, sealed_key_id = $5, sealed_salt = $6, body = $7
WHERE project_id = $1 AND id = $2 AND version = $3

-- name: blob_use
SELECT 1 FROM records WHERE blob_key = $1 AND blob_key <> '' LIMIT 1

-- name: link_add
INSERT INTO links (project_id, source_id, target_id, relation, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING

-- name: link_remove
DELETE FROM links WHERE project_id = $1 AND source_id = $2 AND target_id = $3 AND relation = $4

-- name: links_of
SELECT project_id, source_id, target_id, relation, created_at FROM links
WHERE project_id = $1 AND source_id = ANY($2::text[])
ORDER BY source_id, created_at, target_id, relation
