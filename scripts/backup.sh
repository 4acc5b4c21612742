#!/bin/sh
# ./scripts/backup.sh [--upload-s3] [OPTION …]: a backup now, by the program in the running container.
# Local only without --upload-s3. Passes on the program's exit code.
set -eu
case " $* " in
    *" --upload-s3 "*) ;;
    *) set -- --no-upload-s3 "$@" ;;
esac
exec "$(dirname "$0")/hubbackup" backup "$@"
