#!/bin/sh
# ./scripts/restore.sh --latest | PATH | --from-s3 NAME [OPTION …]: restore, by the program in the running container.
# A PATH under /var/backups/hub-chantier is the same there. Passes on the program's exit code.
set -eu
exec "$(dirname "$0")/hubbackup" restore "$@"
