"""What is different where a person looks on: progress bars, and the log as sentences."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import time
from collections.abc import Callable, Iterable, Iterator

from hubbackup.cli.output import complain
from hubbackup.cli.remedies import typable
from hubbackup.errors import UsageError
from hubbackup.jobs.progress import ProgressMaker, bar
from hubbackup.logs.sentences import Sentences
from hubbackup.shown_text import printable
from hubbackup.streams.cancel import Cancel

SENTENCES = Sentences(answered={"verify.bad"}, typable=typable)
"""Of this process. `verify` lists every damaged copy in its answer."""


def progress(*, quiet: bool) -> ProgressMaker | None:
    """Bars where somebody looks on; else, and with `quiet` (for --json), None: the log reports the progress."""
    return None if quiet or not sys.stderr.isatty() else bar


ANSWER_MINUTES = 30
"""Who asks holds the lock as a rule, and the night's backup waits for it: a terminal may be left for the day."""


def read_line(cancel: Cancel, minutes: float = ANSWER_MINUTES) -> str:
    """What is typed at the terminal, without its end. Raises StoppedError at Ctrl-C, UsageError where nothing is."""
    deadline = time.monotonic() + minutes * 60
    while not select.select([sys.stdin], [], [], 0.2)[0]:  # a plain readline would start again after a signal
        cancel.check()
        if time.monotonic() > deadline:
            complain("")
            raise UsageError(f"nobody has answered in {minutes:g} minutes, nothing was done", remedy="run it again")
    return sys.stdin.readline().rstrip("\r\n")


def ask_for_word(cancel: Cancel, question: str, *words: str, minutes: float = ANSWER_MINUTES) -> None:
    """Raises UsageError where something else than one of `words` is typed, or nothing, StoppedError at Ctrl-C."""
    forget_typed_ahead()
    complain(question, end="")
    typed = read_line(cancel, minutes)
    if not set(words) & {typed, typed.strip()}:
        raise UsageError("not confirmed, nothing was done")


def ask_for_name(cancel: Cancel, database: str, text: str = "") -> None:
    """As `ask_for_word`, for the name of the database, below a `text`."""
    if text:
        complain(text)
    ask_for_word(cancel, f"Type the database's name ({database}) to go on: ", database, printable(database))


def passphrase_asker(cancel: Cancel) -> Callable[[str], str] | None:
    """Asks for the passphrase of a file, which is not shown as it is typed; None where nobody is at a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None

    def ask(name: str) -> str:
        try:
            with _unseen():  # before the question: who types fast is not shown either
                forget_typed_ahead()
                complain(f"Passphrase of {name}: ", end="")
                return read_line(cancel)
        finally:
            complain("")

    return ask


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    """What is typed is not shown, but for the line breaks."""
    before = termios.tcgetattr(sys.stdin)
    hidden = before.copy()
    hidden[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, hidden)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def print_warnings(sentences: Iterable[str]) -> None:
    """What is not as it should be, though the command did its work, on stderr: where the log has not shown it yet."""
    for sentence in sentences:
        if not SENTENCES.has_shown(sentence):
            complain(f"warning: {sentence}")


def forget_typed_ahead() -> None:
    """Drop what was typed or pasted before a question was asked: it can't be its answer."""
    with contextlib.suppress(termios.error, OSError, ValueError):  # no terminal
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
