"""The whole tree of errors, and the exit codes.

    HubbackupError                 exit 1: the run failed
    ├── UsageError                 exit 2: bad usage or settings, nothing was done
    │   ├── SettingsError              a variable is missing or malformed
    │   ├── IdentityError              a backup is sealed, and no key at hand opens it
    │   └── PassphraseError            a key has a passphrase, and nobody is there to type it
    ├── LockHeldError              exit 4: another run holds the lock
    ├── StoppedError               exit 143/130: stopped by a signal
    ├── RunnerError                the database's tools could not be run to their end
    │   ├── EngineError                the Docker engine: no socket, no permission, no answer
    │   ├── ContainerError             the database's container: not found, not running
    │   ├── NoDataConnectionError      the bytes have to go through the engine's relay; nothing was started
    │   ├── StreamError                the stream broke off inside a frame, or fell silent
    │   └── ToolError                  pg_dump or psql ended with an error of its own
    ├── StoreError                 a store did not do what it was asked
    │   ├── NotFoundError              no such name in this store
    │   ├── ExistsError                the name is taken; a store never overwrites
    │   ├── StoreFullError             no space left
    │   ├── StoreDeniedError           credentials or permissions
    │   ├── ArchivedError              it rests in an archive class, and has to be thawed first
    │   └── StoreSilentError           no answer: the next call would wait as long in vain
    ├── NotProvenError             a backup, or what should have become one, failed a check
    ├── UnrestorableError          a whole backup that a server refuses: the schema has to be mended
    └── InternalError              a fault of the program: an exception that is not one of these

Every foreign exception (OSError, docker, botocore, zlib) is mapped to one of these at the edge where it
arises, with `from`. A message is one sentence that names what failed and where; `remedy` says what to do
next. Neither ever holds a secret, nor anything that a terminal obeys, and both are one line of a kilobyte at most,
whatever a server or a tool has said. A run that is *degraded* (exit 3) is an outcome, not an error.
"""

from __future__ import annotations

import signal

from hubbackup.shown_text import sentence

EXIT_SUCCESS, EXIT_FAILED, EXIT_USAGE, EXIT_DEGRADED, EXIT_LOCKED = range(5)
EXIT_INTERRUPTED, EXIT_STOPPED = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""What each means stands in `cli`, for the help and docs/cli.md."""
NAGIOS_OK, NAGIOS_WARNING, NAGIOS_CRITICAL, NAGIOS_UNKNOWN = range(4)
"""Of `hubbackup check` alone, also for bad usage: there 2 says that the backups are in a critical state."""


class HubbackupError(Exception):
    """A run failed. `str()` gives the sentence; `remedy` the next step, or an empty string."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(sentence(message))
        self.remedy = sentence(remedy)

    @property
    def kind(self) -> str:
        """Its name in the tree, as the log has it."""
        return type(self).__name__


class UsageError(HubbackupError):
    """The command line asks for something that can't be; nothing was done."""

    exit_code = EXIT_USAGE


class SettingsError(UsageError):
    """A setting is missing or malformed; the message names the variable, never a secret's value."""


class IdentityError(UsageError):
    """A backup is sealed, and no key at hand opens it; the message has the fingerprints of those that would."""


class PassphraseError(UsageError):
    """A private key has a passphrase, and there is nobody to type it."""


class LockHeldError(HubbackupError):
    """Another run of hubbackup holds the lock; this one left nothing behind.

    `elsewhere`: that of the database, from another host or directory.
    """

    exit_code = EXIT_LOCKED

    def __init__(self, message: str, *, remedy: str = "", elsewhere: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.elsewhere = elsewhere


class StoppedError(HubbackupError):
    """A signal asked this run to stop; `signal_number` gives the exit code 128 + n."""

    def __init__(self, signal_number: int = 15) -> None:
        super().__init__("stopped by a signal before the run was finished")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.signal_number


class RunnerError(HubbackupError):
    """The database's own tools could not be run to their end."""


class EngineError(RunnerError):
    """The Docker engine could not be reached, refused, or broke its protocol."""


class ContainerError(RunnerError):
    """The database's container does not exist, is ambiguous, or is not running."""


class NoDataConnectionError(RunnerError):
    """The database's container can't connect to this process. Nothing was started; the exec's streams remain."""


class StreamError(RunnerError):
    """The byte stream of a running tool broke off, or was silent for too long."""


class ToolError(RunnerError):
    """A tool (pg_dump, psql) ended with an error; `exit_code_of_tool` and `stderr` are the tool's own."""

    def __init__(self, message: str, *, remedy: str = "", exit_code_of_tool: int = 1, stderr: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.exit_code_of_tool = exit_code_of_tool
        self.stderr = stderr


class StoreError(HubbackupError):
    """A store did not do what it was asked; `transient` says whether the same call may succeed later."""

    def __init__(self, message: str, *, remedy: str = "", transient: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.transient = transient


class NotFoundError(StoreError):
    """No such name in this store."""


class ExistsError(StoreError):
    """The name is taken; a store never overwrites."""


class StoreFullError(StoreError):
    """No space left for what was to be written."""


class StoreDeniedError(StoreError):
    """The store refused: wrong credentials, or no permission."""


class ArchivedError(StoreError):
    """The object rests in an archive class: it is whole, and can be read only once it was thawed."""


class StoreSilentError(StoreError):
    """The store can't be reached, or does not answer in time: not a fact about one object, but about the store."""


class NotProvenError(HubbackupError):
    """A backup, or the dump that should have become one, failed a check of the publish gate."""


class UnrestorableError(HubbackupError):
    """A server refused a statement of a dump that is whole: no restore of it can succeed as it is.

    `why` says it without the name of the backup.
    """

    def __init__(self, message: str, *, why: str = "", remedy: str = "", sqlstate: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.why = why or message
        self.sqlstate = sqlstate


class InternalError(HubbackupError):
    """A fault of the program; `cause` is the exception that shows it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"internal error: {type(cause).__name__}: {cause}")
        self.cause = cause

    @property
    def kind(self) -> str:
        """The cause's own name."""
        return type(self.cause).__name__
