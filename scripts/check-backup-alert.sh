#!/bin/sh
# ./scripts/check-backup-alert.sh [--max-age 26h]: are the backups well? For cron, each morning:
#   0 9 * * * /home/deploy/hub-chantier/scripts/check-backup-alert.sh
# Silent where they are (on a terminal: one line). Where they are not: one line `ALERTE: …` (cron mails it; without an
# answer of the program all that was said instead), a mail to ADMIN_EMAIL where that is set and `mail` is there, and
# the exit code of `hubbackup check`: 1 WARNING, 2 CRITICAL, 3 UNKNOWN; 2 too where the service is down.
set -u
answer=$("$(dirname "$0")/hubbackup" check "$@" 2>&1 </dev/null)
code=$?
# Without the program's log, which is beside it: a misspelt setting is a line of JSON there.
verdict=$(printf '%s\n' "$answer" | grep -E '^BACKUP (OK|WARNING|CRITICAL|UNKNOWN) - ')
if [ -n "$verdict" ]; then
    answer=$verdict
else
    code=2 # the program did not answer: the service is down, and so are the backups
fi
if [ "$code" -eq 0 ]; then
    # cron mails whatever is printed: to nobody when all is well.
    [ ! -t 1 ] || printf '%s\n' "$answer"
    exit 0
fi
answer="ALERTE: $answer"
printf '%s\n' "$answer"
if [ -n "${ADMIN_EMAIL:-}" ] && command -v mail >/dev/null; then
    printf '%s\n' "$answer" | mail -s "Hub Chantier - Backup Failed" "$ADMIN_EMAIL"
fi
exit "$code"
