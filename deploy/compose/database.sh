#!/bin/sh
# Run once, when the database of compose.yaml is made: a role that owns its database and nothing else, so that row-level
# security holds for it (it does not for superusers).
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$POSTGRES_PASSWORD" --username="${POSTGRES_USER:-postgres}" <<'SQL'
CREATE ROLE contextdna LOGIN PASSWORD :'password';
CREATE DATABASE contextdna OWNER contextdna;
\connect contextdna
CREATE EXTENSION IF NOT EXISTS vector;
SQL
