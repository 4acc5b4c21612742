"""`hubbackup notify-test`."""

from __future__ import annotations

from datetime import UTC, datetime

from hubbackup.cli.options import Json
from hubbackup.cli.output import print_json, say
from hubbackup.cli.session import make_app
from hubbackup.errors import EXIT_FAILED, EXIT_SUCCESS, SettingsError
from hubbackup.notify.messages import compose_test
from hubbackup.notify.sinks import DAEMON_SECONDS


def notify_test(json: Json = False) -> int:
    """Send a test message to each sink, and report its answer.

    The sinks are those of NOTIFICATION_URLS. Exit code 0, or 1 where one of them did not take the message.
    """
    notifier = make_app().notifier
    if not notifier.sinks.labels:
        raise SettingsError("NOTIFICATION_URLS is not set", remedy="see docs/notifications.md")
    message = compose_test(notifier.place(), datetime.now(UTC))
    answers = notifier.sinks.send(message, notifier.sinks.labels, DAEMON_SECONDS)
    notifier.deliveries.note(message.title, answers, datetime.now(UTC))
    code = EXIT_FAILED if any(answers.values()) else EXIT_SUCCESS
    if json:
        print_json({"exit_code": code, "sinks": {label: answer or "sent" for label, answer in answers.items()}})
        return code
    for label, answer in answers.items():
        say(f"{label}: {f'FAILED: {answer}' if answer else 'sent'}")
    return code
