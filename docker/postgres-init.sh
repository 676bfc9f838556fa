#!/bin/sh
# One role and one database for each program; PostgreSQL's image runs this on its first start.
# Only its owner and the superuser may connect to a database.
set -eu

create() {  # role and database $1, its password in the secret $2
    psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet -U "${POSTGRES_USER:-postgres}" -d postgres \
        -v name="$1" -v file="${SECRETS_FOLDER:-/run/secrets}/$2" <<'SQL'
\set password `cat :file`
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

create prefect prefect_db_password
create labelstudio label_studio_db_password
create flywheel ledger_password
