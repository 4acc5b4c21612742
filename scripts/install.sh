#!/bin/sh
# ./hubbackup/scripts/install.sh [--dry-run] [--remove]: sets hubbackup up beside an application.
#
# Run it in the application's directory, where hubbackup was cloned into ./hubbackup. It links the guide's commands
# into ./scripts, and includes hubbackup/docker-compose.backup.yml in the application's compose file. It writes nothing
# else, replaces no file, and changes nothing a second time. --dry-run only shows it; --remove undoes it.
set -eu

say() { printf '%s\n' "$*"; }
fail() {
    printf 'install.sh: %s\n' "$1" >&2
    [ -z "${2-}" ] || printf '  what to do: %s\n' "$2" >&2
    exit 2
}

dry_run= remove=
for argument; do
    case $argument in
        --dry-run) dry_run=1 ;;
        --remove) remove=1 ;;
        -h | --help)
            sed -n '2,6s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) fail "$argument is not an option" "the options are --dry-run and --remove" ;;
    esac
done

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
app=$(dirname "$here")
name=$(basename "$here")
[ "$(pwd -P)" = "$app" ] ||
    fail "run it in the application's directory, $app" "cd '$app' && ./$name/scripts/install.sh"
[ "$name" = hubbackup ] ||
    fail "hubbackup was cloned into ./$name, and docker compose looks for it in ./hubbackup" "mv '$name' hubbackup"

compose=
for file in docker-compose.prod.yml docker-compose.prod.yaml compose.yaml compose.yml docker-compose.yaml docker-compose.yml; do
    if [ -f "$file" ]; then
        compose=$file
        break
    fi
done
[ -n "$compose" ] || fail "there is no compose file in $app" "run it where the application's docker-compose.prod.yml is"

commands="backup.sh restore.sh check-backup-alert.sh hubbackup"
include='include: [hubbackup/docker-compose.backup.yml]'
marked="$include  # hubbackup: install.sh --remove takes this line out"
on="docker compose -f $compose --profile backup"
refused=0

# act WORDS COMMAND ARGUMENT…: says what is done, and does it but for --dry-run.
act() {
    if [ -n "$dry_run" ]; then
        say "would $1"
        return
    fi
    say "$1"
    shift
    "$@"
}

# Written beside the file and moved over it: the file is whole at each moment. Owner and mode stay.
rewrite() {
    cp -p "$compose" "$compose.hubbackup-new"
    cat > "$compose.hubbackup-new"
    mv "$compose.hubbackup-new" "$compose"
}
# At the top, but behind a `---`: before it, the line would be a document of its own.
add_include() {
    line=$marked awk 'NR == 1 && /^---/ { print; print ENVIRON["line"]; next } NR == 1 { print ENVIRON["line"] } { print }' \
        "$compose" | rewrite
}
drop_include() { { grep -vxF "$marked" "$compose" || true; } | rewrite; }

knows_include() {
    version=$(docker compose version --short 2>/dev/null) || return 0
    [ "$(printf '%s\n' 2.20 "${version#v}" | sort -V | head -n 1)" = 2.20 ]
}

# of_env NAME DEFAULT: as compose has it, from the application's .env.
of_env() {
    value=$(sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1 | tr -d '"'\''[:space:]')
    printf '%s' "${value:-$2}"
}

link_to() { printf '../hubbackup/scripts/%s' "$1"; }

unlink_commands() {
    for command in $commands; do
        if [ -L "scripts/$command" ] && [ "$(readlink "scripts/$command")" = "$(link_to "$command")" ]; then
            act "remove the link scripts/$command" rm "scripts/$command"
        fi
    done
    if [ -d scripts ] && [ -z "$(ls -A scripts)" ]; then
        act "remove the empty directory scripts" rmdir scripts
    fi
}

link_commands() {
    [ -d scripts ] || act "make the directory scripts" mkdir scripts
    for command in $commands; do
        target=$(link_to "$command")
        if [ -L "scripts/$command" ] && [ "$(readlink "scripts/$command")" = "$target" ]; then
            say "scripts/$command is linked already"
        elif [ -e "scripts/$command" ] || [ -L "scripts/$command" ]; then
            say "scripts/$command is there already and is not hubbackup's: left alone"
            say "  what to do: move it away and run this again, or use ./hubbackup/scripts/$command"
            refused=1
        else
            act "link scripts/$command to $target" ln -s "$target" "scripts/$command"
        fi
    done
}

include_service() {
    if grep -q 'hubbackup/docker-compose\.backup\.yml' "$compose"; then
        say "$compose includes hubbackup/docker-compose.backup.yml already"
    elif grep -q '^include:' "$compose"; then
        say "$compose has a list of includes of its own: left alone"
        say "  what to do: add this line to that list"
        say "    - hubbackup/docker-compose.backup.yml"
        refused=1
    elif knows_include; then
        act "add to the top of $compose: $include" add_include
    else
        say "docker compose is older than 2.20 and knows no include: $compose is left alone, name both files each time"
        on="docker compose -f $compose -f hubbackup/docker-compose.backup.yml --profile backup"
    fi
}

if [ -n "$remove" ]; then
    unlink_commands
    if grep -qxF "$marked" "$compose"; then
        act "take the include out of $compose" drop_include
    fi
    say "The backups in $(of_env BACKUP_HOST_DIR /var/backups/hub-chantier) stay." \
        "The service: docker rm -f $(of_env BACKUP_CONTAINER hub-chantier-backup)"
    exit 0
fi

link_commands
include_service
[ -f .env.production ] || say "There is no .env.production yet: hubbackup reads its settings there (hubbackup/docs/settings.md)"
if [ "$refused" -ne 0 ]; then
    say "Not everything could be set up: see above."
    exit 1
fi
say "Next: $on up -d backup-cron"
