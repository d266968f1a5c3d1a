-- The vectors of records. A vector of version 0 was emptied when its record moved on, and waits for its successor.

-- fragment: embedding
e.serial, e.project_id, r.id, e.version, e.space, e.codec, e.key_id, e.salt, e.vector,
r.level, r.owner_id, r.team_id, r.swarm_id

-- fragment: standing
embedding_spaces s
JOIN embeddings e ON e.project_id = s.project_id AND e.space = s.number
JOIN records r ON r.seq = e.seq AND r.project_id = e.project_id AND r.version = e.version

-- fragment: without_vector
NOT EXISTS (
  SELECT 1 FROM embeddings e WHERE e.project_id = r.project_id AND e.seq = r.seq AND (e.version = 0 OR (e.version = r.version AND e.space = $2))
)

-- name: embedding_space
SELECT s.model, s.dimension, s.number,
  coalesce((SELECT max(e.serial) FROM embeddings e WHERE e.project_id = s.project_id), 0), s.gone
FROM embedding_spaces s WHERE s.project_id = $1

-- name: embedding_adopt
INSERT INTO embedding_spaces (project_id, model, dimension, number, done_seq, gone) VALUES ($1, $2, $3, 1, 0, 0)
ON CONFLICT (project_id) DO UPDATE SET
  model = excluded.model, dimension = excluded.dimension, number = embedding_spaces.number + 1, done_seq = 0

-- name: embeddings_missing
-- Up to done_seq only those that have moved on since lack a vector; behind it any may.
SELECT {record} FROM records r
WHERE r.project_id = $1 AND r.seq IN (
  SELECT e.seq FROM embeddings e
  WHERE e.project_id = $1 AND e.version = 0 LIMIT $3
)
UNION ALL
SELECT * FROM (
  SELECT {record} FROM records r
  WHERE r.seq > $4 AND r.project_id = $1 AND {without_vector}
  ORDER BY r.seq LIMIT $3
) AS behind
LIMIT $3

-- name: embeddings_backlog
SELECT (SELECT count(*) FROM embeddings e WHERE e.project_id = $1 AND e.version = 0)
  + (
    SELECT count(*) FROM records r
    WHERE r.seq > $3 AND r.project_id = $1 AND {without_vector}
  )

-- name: embedding_progress
SELECT s.number, s.done_seq FROM embedding_spaces s WHERE s.project_id = $1

-- name: embedding_drop
DELETE FROM embeddings
WHERE project_id = $1 AND seq = (SELECT r.seq FROM records r WHERE r.project_id = $1 AND r.id = $2 AND r.version = $3)
  AND NOT (version = $3 AND space = $4)
  AND EXISTS (SELECT 1 FROM embedding_spaces s WHERE s.project_id = $1 AND s.number = $4)

-- name: embedding_insert
INSERT INTO embeddings (seq, project_id, version, space, codec, key_id, salt, vector)
SELECT r.seq, r.project_id, r.version, $4::integer, $5::smallint, $6::text, $7::bytea, $8::bytea FROM records r
WHERE r.project_id = $1 AND r.id = $2 AND r.version = $3
  AND EXISTS (SELECT 1 FROM embedding_spaces s WHERE s.project_id = $1 AND s.number = $4)
  AND NOT EXISTS (SELECT 1 FROM embeddings e WHERE e.project_id = $1 AND e.seq = r.seq)

-- name: embedding_advance
-- As far as every record has a vector, or has an emptied one. Places are never used twice.
UPDATE embedding_spaces SET done_seq = coalesce(
  (
    SELECT r.seq - 1 FROM records r
    WHERE r.seq > embedding_spaces.done_seq AND r.project_id = $1 AND NOT EXISTS (
      SELECT 1 FROM embeddings e WHERE e.project_id = $1 AND e.seq = r.seq AND e.space = embedding_spaces.number
    )
    ORDER BY r.seq LIMIT 1
  ),
  (SELECT max(seq) FROM records WHERE project_id = $1),
  0
)
WHERE project_id = $1

-- name: embeddings_after
SELECT {embedding} FROM {standing}
WHERE s.project_id = $1 AND e.serial > $2 AND e.codec <> 0
ORDER BY e.serial LIMIT $3

-- name: embedding_serials
SELECT e.serial FROM {standing}
WHERE s.project_id = $1 AND e.codec <> 0
ORDER BY e.serial

-- name: embeddings_of_records
SELECT {embedding}
FROM records r
JOIN embeddings e ON e.project_id = r.project_id AND e.seq = r.seq AND e.version = r.version
JOIN embedding_spaces s ON s.project_id = e.project_id AND s.number = e.space
WHERE r.project_id = $1 AND r.id = ANY($2::text[]) AND e.codec <> 0

-- name: embeddings_among
SELECT e.serial, r.id
FROM embeddings e
JOIN embedding_spaces s ON s.project_id = e.project_id AND s.number = e.space
JOIN records r ON r.project_id = e.project_id AND r.seq = e.seq AND r.version = e.version
WHERE e.project_id = $1 AND e.serial = ANY($20::bigint[]) AND e.codec <> 0 AND {visible} AND {filtered}
