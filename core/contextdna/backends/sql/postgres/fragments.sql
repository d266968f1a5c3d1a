-- Texts that several statements share, once. A statement takes one by its name in braces.
--
-- Whoever reads comes as parameters 1 to 6 of every statement that has a reader:
--   1 project, 2 agent, 3 team, 4 swarm, 5 whether its role is system, 6 now
-- and a filter as 7 to 19:
--   7 the time to judge validity at, 8 kinds, 9 types, 10 tiers, 11 levels (arrays or null),
--   12 tag tokens (JSON array of two arrays, for plain and for encrypted levels, or null),
--   13 owner, 14 session, 15 subject (empty: any), 16 since, 17 until (or null), 18 least importance, 19 deleted (1), of any
--   validity (2) or neither (0)

-- fragment: granted
EXISTS (
  SELECT 1 FROM grants g
  WHERE g.project_id = $1 AND g.record_id = r.id AND g.grantee_id = $2
    AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > $6)
)

-- fragment: open
(
  r.owner_id = $2
  OR r.level = 4
  OR (r.level = 2 AND r.team_id = $3 AND $3 <> '')
  OR (r.level = 3 AND r.swarm_id = $4 AND $4 <> '')
  OR (r.level = 5 AND $5::boolean)
)

-- fragment: visible
(r.project_id = $1 AND ({open} OR {granted}))

-- fragment: granted_by
CASE WHEN {open} THEN '' ELSE (
  SELECT g.granted_by FROM grants g
  WHERE g.project_id = $1 AND g.record_id = r.id AND g.grantee_id = $2
    AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > $6)
  ORDER BY g.id LIMIT 1
) END

-- fragment: kept
(r.deleted_at IS NULL AND (r.retention_until IS NULL OR r.retention_until > $6))

-- fragment: living
({kept} AND coalesce(r.valid_from, r.created_at) <= $7 AND (r.valid_to IS NULL OR r.valid_to > $7))

-- fragment: filtered
(
  CASE $19::integer WHEN 1 THEN r.deleted_at IS NOT NULL WHEN 2 THEN {kept} ELSE {living} END
  AND ($8::text[] IS NULL OR r.kind = ANY($8::text[]))
  AND ($9::text[] IS NULL OR r.type = ANY($9::text[]))
  AND ($10::text[] IS NULL OR r.tier = ANY($10::text[]))
  AND ($11::smallint[] IS NULL OR r.level = ANY($11::smallint[]))
  AND ($13 = '' OR r.owner_id = $13)
  AND ($14 = '' OR r.session_id = $14)
  AND ($15 = '' OR r.subject = $15)
  AND ($16::timestamptz IS NULL OR r.created_at >= $16)
  AND ($17::timestamptz IS NULL OR r.created_at < $17)
  AND r.importance >= $18
  AND ($12::jsonb IS NULL OR r.tag_tokens @> ($12::jsonb -> CASE WHEN r.level IN (1, 2, 5) THEN 1 ELSE 0 END))
)

-- fragment: record
r.id, r.project_id, r.kind, r.level, r.owner_id, r.team_id, r.swarm_id, r.session_id, r.type, r.tier, r.importance,
r.position, r.subject, r.version, r.created_at, r.updated_at, r.valid_from, r.valid_to, r.superseded_by,
r.retention_until, r.deleted_at, r.content_hash, r.tag_tokens, r.blob_key, r.sealed_codec, r.sealed_key_id,
r.sealed_salt, r.body

-- fragment: ref
r.id, r.project_id, r.kind, r.level, r.owner_id, r.team_id, r.swarm_id

-- fragment: candidate
r.id, r.level, r.owner_id, r.importance, r.created_at, r.words, r.sketch, NOT {open}
