-- contextdna on Citus (12 or newer): every project lies whole on one node. Reviewed on paper and by tests of what every
-- statement is tied to; docs/postgres.md tells what was not tried.
--
-- Run it once, on the coordinator, as a superuser, after `contextdna migrate` and before anything is stored:
--   psql -v ON_ERROR_STOP=1 -f citus.sql DATABASE
-- Servers connect to the coordinator, all of them: units of work take their locks there.

BEGIN;
CREATE EXTENSION IF NOT EXISTS citus;

SET LOCAL citus.shard_count = 128; -- cannot be fewer than nodes later; see `python -m benchmarks shards`
SET LOCAL citus.shard_replication_factor = 1; -- each node has a standby of its own instead
SET LOCAL citus.enable_unsafe_triggers = on; -- those below touch rows of their own project alone, on the same node

-- What names the project for row-level security is not passed on to the nodes. The predicate is in every statement (a test
-- asks the planner for each), and who logs in to a node by himself is kept out by its pg_hba.conf.
DO $$
DECLARE
  walled regclass;
BEGIN
  FOR walled IN SELECT oid FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace LOOP
    EXECUTE format('DROP POLICY one_project ON %s', walled);
    EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', walled);
  END LOOP;
END
$$;

-- They write to other tables, which a trigger on a shard may not do; what does it instead is at the end. Reading from standbys
-- (storage.postgres.replicas), for which changes of rights are noted, does not go together with Citus.
DROP TRIGGER embeddings_age_with_records ON records;
DROP TRIGGER embeddings_go_with_records ON records;
DROP TRIGGER embeddings_count_what_goes ON embeddings;
DROP TRIGGER records_change_access ON records;
DROP TRIGGER records_purged_change_access ON records;
DROP TRIGGER grants_change_access ON grants;
DROP TRIGGER sessions_change_access ON sessions;
DROP TRIGGER sessions_gone_change_access ON sessions;
DROP TRIGGER delegations_change_access ON delegations;
DROP TRIGGER agents_new_change_access ON agents;
DROP TRIGGER agents_change_access ON agents;

-- Small, and asked by every project: on every node.
SELECT create_reference_table('projects');
SELECT create_reference_table('access_tokens');

-- Of the coordinator alone. The outbox is read across projects in the order of commit, which one node has to give, and what is
-- in it is gone after days.
SELECT citus_add_local_table_to_metadata('events');
SELECT citus_add_local_table_to_metadata('histories');
SELECT citus_add_local_table_to_metadata('moves');
SELECT citus_add_local_table_to_metadata('move_tallies');
SELECT citus_add_local_table_to_metadata('schema_migrations');

-- All else by project, and together: what a unit of work touches is on one node, so its transaction and its snapshot are those
-- of one PostgreSQL.
SELECT create_distributed_table('records', 'project_id', colocate_with => 'none');
SELECT create_distributed_table('records_index', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('record_access', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('index_totals', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('embeddings', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('embedding_spaces', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('links', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('grants', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('agents', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('agent_history', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('sessions', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('session_states', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('delegations', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('signals', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('signal_targets', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('acknowledgements', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('leases', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('keys', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('idempotent_answers', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('conflicts', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('audit_log', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('audit_heads', 'project_id', colocate_with => 'records');
SELECT create_distributed_table('access_changes', 'project_id', colocate_with => 'records');

SELECT create_distributed_function('holds_phrases(text, jsonb)');

-- A vector goes with its record. One whose record has moved on does not stand either (its version is another one), but keeps
-- its bytes until the project is embedded anew with `contextdna reindex`, and only then the record's new text is found by
-- meaning: without an embedder, nothing of this matters.
ALTER TABLE embeddings ADD CONSTRAINT embeddings_of_records
FOREIGN KEY (project_id, seq) REFERENCES records (project_id, seq) ON DELETE CASCADE;
COMMIT;

-- A project that is larger or hotter than others gets a shard of its own, and that a node:
--   SELECT isolate_tenant_to_new_shard('records', 'the project', 'CASCADE', shard_transfer_mode => 'block_writes');
--   SELECT citus_move_shard_placement(shard, 'from', 5432, 'to', 5432, shard_transfer_mode => 'force_logical')
--   ... with the shard that get_shard_id_for_distribution_column('records', 'the project') names.
-- New nodes: SELECT citus_add_node('node', 5432); then SELECT citus_rebalance_start();
