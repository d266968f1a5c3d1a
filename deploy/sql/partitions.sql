-- contextdna on PostgreSQL: the largest tables cut into partitions by the hash of the project. Whether that is worth it:
-- docs/postgres.md. It works on an installation without data and on one with (it copies the rows, and nobody may use the
-- database meanwhile), as the role that owns the tables:
--   psql -v ON_ERROR_STOP=1 -f partitions.sql DATABASE
-- Back again: contextdna storage migrate, into a database that is not cut.

BEGIN;
SET LOCAL contextdna.partitions = '16'; -- how many; it stays so
SET LOCAL contextdna.project = '*';

CREATE TEMPORARY TABLE cut (ord integer GENERATED ALWAYS AS IDENTITY, statement text) ON COMMIT DROP;

CREATE OR REPLACE FUNCTION pg_temp.cut_into_partitions(whole text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  parts integer := current_setting('contextdna.partitions')::integer;
  of_table regclass := whole::regclass;
  options text := (SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = of_table);
  policy text := (SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = of_table);
  made text;
  part text;
BEGIN
  IF (SELECT relkind FROM pg_class WHERE oid = of_table) <> 'r' THEN
    RAISE EXCEPTION '% is cut already', whole;
  END IF;
  EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', whole);
  DELETE FROM cut;
  -- What has to be made again: keys, indexes, triggers, views.
  INSERT INTO cut (statement)
  SELECT format('ALTER TABLE %I ADD CONSTRAINT %I %s', whole, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE conrelid = of_table AND contype IN ('p', 'u');
  INSERT INTO cut (statement)
  SELECT pg_get_indexdef(indexrelid) FROM pg_index
  WHERE indrelid = of_table AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid);
  INSERT INTO cut (statement)
  SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = of_table AND NOT tgisinternal;
  INSERT INTO cut (statement)
  SELECT DISTINCT format('CREATE VIEW %s AS %s', v.oid::regclass, pg_get_viewdef(v.oid))
  FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
  WHERE d.refobjid = of_table AND v.relkind = 'v';

  EXECUTE format('CREATE TABLE uncut (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE) PARTITION BY HASH (project_id)', whole);
  FOR place IN 0 .. parts - 1 LOOP
    EXECUTE format(
      'CREATE TABLE %I PARTITION OF uncut FOR VALUES WITH (MODULUS %s, REMAINDER %s)%s',
      format('%s_%s', whole, place), parts, place, coalesce(' WITH (' || options || ')', '')
    );
  END LOOP;
  EXECUTE format('INSERT INTO uncut SELECT * FROM %I', whole);
  EXECUTE format('DROP TABLE %I CASCADE', whole); -- its views
  EXECUTE format('ALTER TABLE uncut RENAME TO %I', whole);
  FOR made IN SELECT statement FROM cut ORDER BY ord LOOP
    EXECUTE made;
  END LOOP;

  FOR part IN SELECT whole UNION ALL SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = whole::regclass LOOP
    IF policy IS NOT NULL THEN
      EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
      EXECUTE format('CREATE POLICY one_project ON %s USING (%s)', part, policy);
    END IF;
    IF whole = 'audit_log' THEN -- of a statement, so the parts need their own
      IF part <> whole THEN
        EXECUTE format(
          'CREATE TRIGGER audit_log_keeps BEFORE UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
          part
        );
      END IF;
      EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_log_keeps', part);
    END IF;
  END LOOP;
END
$$;

SELECT pg_temp.cut_into_partitions(whole)
FROM unnest(ARRAY['records', 'records_index', 'record_access', 'links', 'audit_log']) AS whole;
COMMIT;
