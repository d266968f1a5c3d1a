-- Everything that 0001_initial.up.sql made, in reverse. All data goes with it.

DROP VIEW tasks;
DROP VIEW loop_records;
DROP VIEW artifacts;
DROP VIEW turns;
DROP VIEW memories;
DROP TABLE conflicts;
DROP TABLE idempotent_answers;
DROP TABLE keys;
DROP TABLE events;
DROP TABLE acknowledgements;
DROP TABLE signal_targets;
DROP TABLE signals;
DROP TABLE audit_heads;
DROP TABLE audit_log;
DROP TABLE links;
DROP TABLE grants;
DROP TABLE records_index;
DROP TABLE record_access;
DROP TABLE records;
DROP TABLE delegations;
DROP TABLE session_states;
DROP TABLE sessions;
DROP TABLE agent_history;
DROP TABLE agents;
DROP TABLE projects;
