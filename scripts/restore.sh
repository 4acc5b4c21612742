#!/bin/sh
# ./scripts/restore.sh --latest | PATH | --from-s3 NAME [OPTION …]: restore, by the program in the running container.
# A PATH is one of the host's. Passes on the program's exit code.
set -eu
exec "$(dirname "$0")/hubbackup" restore "$@"
