#!/usr/bin/env bash
# Entry point of the PostgreSQL stand-ins: the same variables, the same steps and
# the same access rules as in the official image, nothing more.
set -Eeuo pipefail

# POSTGRES_X may be given as a file's name in POSTGRES_X_FILE (a secret).
from_file() {
    local var=$1 file_var=${1}_FILE
    if [ -n "${!var:-}" ] && [ -n "${!file_var:-}" ]; then
        echo "error: both $var and $file_var are set (but are exclusive)" >&2
        exit 1
    fi
    if [ -n "${!file_var:-}" ]; then
        export "$var"="$(< "${!file_var}")"
    fi
    unset "$file_var"
}

read_settings() {
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER
    from_file POSTGRES_DB
    from_file POSTGRES_INITDB_ARGS
    : "${POSTGRES_PASSWORD:=}" "${POSTGRES_USER:=postgres}" "${POSTGRES_INITDB_ARGS:=}"
    : "${POSTGRES_DB:=$POSTGRES_USER}" "${POSTGRES_HOST_AUTH_METHOD:=}"
    export POSTGRES_USER POSTGRES_DB
}

prepare_directories() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA"
    chmod 3777 /var/run/postgresql
    if [ "$(id -u)" = 0 ]; then
        find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
        find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    fi
}

check_password() {
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
        cat >&2 <<-EOF
		Error: Database is uninitialized and superuser password is not specified.
		       You must specify POSTGRES_PASSWORD to a non-empty value for the
		       superuser. For example, "-e POSTGRES_PASSWORD=password" on "docker run".
		EOF
        exit 1
    fi
}

create_cluster() {
    # The arguments are a list of words in one variable, as in the official image.
    eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"$POSTGRES_INITDB_ARGS"
    local method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption)}
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

sql() {
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc \
        --username "$POSTGRES_USER" --dbname "${DBNAME-$POSTGRES_DB}" "$@"
}

create_database() {
    [ "$POSTGRES_DB" = postgres ] && return
    DBNAME=postgres sql --set db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db" ;'
}

run_init_files() {
    local f
    for f in /docker-entrypoint-initdb.d/*; do
        case $f in
            *.sh)      echo "$0: running $f"; if [ -x "$f" ]; then "$f"; else . "$f"; fi ;;
            *.sql)     echo "$0: running $f"; sql -f "$f" ;;
            *.sql.gz)  echo "$0: running $f"; gunzip -c "$f" | sql ;;
            */\*)      ;; # nothing there
            *)         echo "$0: ignoring $f" ;;
        esac
    done
}

# Nobody may connect over the network before the set-up is complete, so it is
# done by a first server that only listens on the unix socket.
set_up() {
    check_password
    create_cluster
    export PGPASSWORD=$POSTGRES_PASSWORD
    pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p ${PGPORT:-5432}" -w start
    create_database
    run_init_files
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    echo
    echo 'PostgreSQL init process complete; ready for start up.'
    echo
}

main() {
    if [ "${1:0:1}" = - ]; then
        set -- postgres "$@"
    fi
    if [ "${1:-}" = postgres ]; then
        prepare_directories
        if [ "$(id -u)" = 0 ]; then
            exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
        fi
        read_settings
        if [ -s "$PGDATA/PG_VERSION" ]; then
            echo
            echo 'PostgreSQL Database directory appears to contain a database; Skipping initialization'
            echo
        else
            set_up
        fi
    fi
    exec "$@"
}

main "$@"
