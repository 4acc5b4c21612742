"""The edge to S3: each request is bounded, interruptible and retried by one rule, each foreign error made ours.

botocore retries by number of attempts and sleeps where no signal reaches it; a request can also be kept alive
forever by one byte now and then. So botocore is set to try once, each request runs in a thread of its own that is
left behind when its time is over, and tenacity decides about the next attempt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import tenacity

from hubbackup.errors import HubbackupError, StoreError, StoreSilentError
from hubbackup.stores.s3_errors import foreign, refused, unanswered
from hubbackup.streams.ahead import ahead
from hubbackup.streams.cancel import TICK_SECONDS, Cancel

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

T = TypeVar("T")


@dataclass(frozen=True)
class S3Limits:
    """How long to wait for S3. The defaults suit a server across the internet; tests give small ones."""

    connect_seconds: float = 10
    read_seconds: float = 60
    """Silence on one connection that ends the request."""
    call_seconds: float = 120
    """One small request as a whole, however busy its connection looks."""
    answer_seconds: float = 60
    """One small step, all its attempts together: so long a server may be silent before this run does without it."""
    after_silence_seconds: float = 10
    """The same once a step has ended in silence, for `SILENCE_SECONDS`, or until the server answers again."""
    attempts: int = 4
    part_attempts: int = 10
    backoff_seconds: float = 0.5
    longest_backoff_seconds: float = 20
    no_progress_seconds: float = 300
    """The same step, all its attempts together, while no byte gets further than any did before."""
    slowest_bytes_per_second: int = 64 << 10
    """What a line must carry on average; below it, a part counts as making no progress."""
    abort_seconds: float = 4
    """Tidying up after a failure: short, as a stopping container has ten seconds for everything."""

    @classmethod
    def of_timeout(cls, seconds: float) -> S3Limits:
        """Those by which an upload may get no further for `seconds`, and a small step may take a fifth of that."""
        small = seconds / 5
        return cls(
            connect_seconds=min(10, small),
            read_seconds=small,
            answer_seconds=small,
            after_silence_seconds=min(10, small),
            no_progress_seconds=seconds,
        )


SILENCE_SECONDS = 600.0
"""How long a server that did not answer is expected not to."""


class Patience:
    """The time one step may take: fixed, and more for every byte that gets further than any did before."""

    def __init__(self, seconds: float, bytes_per_second: int) -> None:
        self._started = time.monotonic()
        self._seconds = seconds
        self._bytes_per_second = bytes_per_second
        self._furthest_bytes = 0

    def reached(self, position_bytes: int) -> None:
        """The step has got to `position_bytes`; sending the same bytes again earns nothing."""
        self._furthest_bytes = max(self._furthest_bytes, position_bytes)

    def left_seconds(self) -> float:
        """What is left; negative once it is over."""
        allowed = self._seconds + self._furthest_bytes / self._bytes_per_second
        return self._started + allowed - time.monotonic()


class S3Calls:
    """Runs requests for one S3Store. `client` makes (once) the boto3 client; `worded` rewords remedies."""

    def __init__(
        self,
        client: Callable[[], S3Client],
        bucket: str,
        where: str,
        limits: S3Limits,
        cancel: Cancel,
        worded: Callable[[str], str] = str,
    ) -> None:
        self.limits = limits
        self.cancel = cancel
        self._client = client
        self._bucket = bucket
        self._where = where
        self._worded = worded
        self._silent_at = -SILENCE_SECONDS

    def patience(self) -> Patience:
        """A fresh patience for one step that moves bytes."""
        return self._patience(self.limits.no_progress_seconds)

    def _patience(self, seconds: float) -> Patience:
        if time.monotonic() - self._silent_at < SILENCE_SECONDS:
            seconds = min(seconds, self.limits.after_silence_seconds)
        return Patience(seconds, self.limits.slowest_bytes_per_second)

    def run(
        self,
        doing: str,
        request: Callable[[S3Client], T],
        *,
        attempts: int | None = None,
        patience: Patience | None = None,
        attempt_seconds: float | None = None,
    ) -> T:
        """What `request` returns. `doing` completes 'could not …' in the error's sentence.

        A transient failure is tried again, `attempts` times at most and while `patience` lasts; `attempt_seconds`
        bounds each attempt (None: by `patience` alone). Raises StoreError, and StoppedError once a stop is
        asked for. `request` may run on in its thread after that: whatever it uses, it must close itself.
        """
        most_attempts, time_left = attempts or self.limits.attempts, patience or self.patience()

        def enough(state: tenacity.RetryCallState) -> bool:
            return state.attempt_number >= most_attempts or state.upcoming_sleep >= time_left.left_seconds()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, StoreError) and error.transient),
            stop=enough,
            # Random over the whole span: many clients of one throttling server must not come back together.
            wait=tenacity.wait_random_exponential(
                multiplier=self.limits.backoff_seconds, max=self.limits.longest_backoff_seconds
            ),
            sleep=self.cancel.wait,
            reraise=True,
        )
        try:
            answer: T = retrying(lambda: self._attempt(doing, request, time_left, attempt_seconds, self.cancel))
        except StoreError as error:
            if isinstance(error, StoreSilentError):
                self._silent_at = time.monotonic()
            error.remedy = self._worded(error.remedy)
            raise
        self._silent_at = -SILENCE_SECONDS
        return answer

    def small(self, doing: str, request: Callable[[S3Client], T]) -> T:
        """`run` for a request that carries next to nothing."""
        patience = self._patience(self.limits.answer_seconds)
        return self.run(doing, request, patience=patience, attempt_seconds=self.limits.call_seconds)

    def tidy(self, doing: str, request: Callable[[S3Client], object]) -> None:
        """Try `request` once, for a short while, even when the run was stopped. Never raises a StoreError."""
        patience = Patience(self.limits.abort_seconds, self.limits.slowest_bytes_per_second)
        try:
            self._attempt(doing, request, patience, None, Cancel())
        except StoreError:
            return  # the caller has a worse error to report; `remove_leftovers` finds what is left at the next start

    def _attempt(
        self,
        doing: str,
        request: Callable[[S3Client], T],
        patience: Patience,
        attempt_seconds: float | None,
        cancel: Cancel,
    ) -> T:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        client = self._client()
        until = None if attempt_seconds is None else time.monotonic() + attempt_seconds

        def left_seconds() -> float:
            left = patience.left_seconds()
            return left if until is None else min(left, until - time.monotonic())

        try:
            return _run_bounded(lambda: request(client), left_seconds, cancel)
        except _TimeOverError as error:
            raise StoreSilentError(
                f"could not {doing} ({self._where}): the server did not finish in time",
                remedy="check that the S3 endpoint works: hubbackup doctor",
                transient=True,
            ) from error
        except ClientError as error:
            raise refused(error, doing, self._where, self._bucket) from error
        except (BotoCoreError, ResponseParserError, OSError) as error:
            raise unanswered(error, doing, self._where) from error
        except HubbackupError:
            raise
        except Exception as error:  # whatever a foreign answer breaks, in botocore or in what reads it
            raise foreign(error, doing, self._where) from error


class _TimeOverError(Exception):
    """A request was left behind."""


def _run_bounded(call: Callable[[], T], left_seconds: Callable[[], float], cancel: Cancel) -> T:
    """What `call` returns or raises. It is left behind, in its thread, when its time is over or a stop asked for."""
    cancel.check()
    result = ahead("s3-request", call)
    while not result.done():
        cancel.check()
        left = left_seconds()
        if left <= 0:
            raise _TimeOverError
        # `left_seconds` may grow while bytes flow, so it is asked again now and then, and so is `cancel`.
        wait([result], min(left, TICK_SECONDS))
    return result.result()
