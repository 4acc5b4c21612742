"""Hooks: the operator's own commands before and after a backup, in the database's container or here.

Whatever ends the run ends its hook: the command's shell watches its stdin, and ends all that it has started once that
closes, be it by a timeout, a stop, or the death of this process. `docker exec` itself has no kill.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic

from hubbackup.config.database_names import written
from hubbackup.errors import HubbackupError, LockHeldError, StoppedError, StreamError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.run import Job, Outcome, R_co, Run
from hubbackup.runners import Process, Runner
from hubbackup.runners.stderr import Tail
from hubbackup.shown_text import sentence
from hubbackup.streams.cancel import TICK_SECONDS, Cancel

AFTER_STOP_SECONDS = 4.0
"""For BACKUP_POST_EXEC of a run that was stopped: `docker stop` leaves ten to all of it."""
KILL_SECONDS = 3
"""Between TERM and KILL."""
LAST_WORDS_SECONDS = 2.0
"""For what the command has left behind and still holds its output open."""
ASK_SECONDS = 1.0
OUTPUT_BYTES = 4096
NOT_EXECUTABLE, NOT_FOUND = 126, 127
WATCHED = f"""\
exec 3<&0 </dev/null 2>&1
"$@" 3<&- &
hook=$!
(trap "" TERM
read -r _ <&3
kill -TERM -$$ || kill -TERM $hook
sleep {KILL_SECONDS}
kill -KILL -$$ || kill -KILL $hook
) >/dev/null 2>&1 &
watch=$!
exec 3<&-
trap : TERM
wait $hook; code=$?
while kill -0 $hook 2>/dev/null; do wait $hook; code=$?; done
kill -KILL $watch
exit $code
"""


@dataclass(frozen=True)
class Hook:
    """One command. `setting` names it; `local`: in hubbackup's own container, not in the database's."""

    setting: str
    argv: tuple[str, ...]
    local: bool

    @property
    def place(self) -> str:
        """For people."""
        return "hubbackup's own container" if self.local else "the database's container"


@dataclass(frozen=True)
class Hooks:
    """`pre` and `post`, where they are set, each for `seconds` at most. `open_runner` is told whether it
    is a local one."""

    pre: Hook | None
    post: Hook | None
    seconds: float
    open_runner: Callable[[Cancel, bool], Runner]

    def before(self, run: Run, databases: Sequence[str]) -> None:
        """Run `pre`. Raises HubbackupError where it does not end with 0, StoppedError."""
        if self.pre is None:
            return
        with run.stage("before"):
            self._run(run, self.pre, self._env(run, "pre", databases), self.seconds)

    def after(self, run: Run, databases: Sequence[str], ending: Outcome[R_co] | BaseException) -> tuple[str, ...]:
        """Run `post`, however the run has ended; returns a sentence where that fails. Never raises HubbackupError."""
        if self.post is None:
            return ()
        stopped = run.cancel.is_set()
        stage, run.stage_name = run.stage_name, "after"
        run.on_stage("after")
        try:
            seconds = min(self.seconds, AFTER_STOP_SECONDS) if stopped else self.seconds
            env = self._env(run, "post", databases) | _result(ending)
            self._run(run, self.post, env, seconds, last=True)
        except HubbackupError as error:
            return (str(error),)
        finally:
            run.stage_name = stage
        return ()

    @staticmethod
    def _env(run: Run, which: str, databases: Sequence[str]) -> dict[str, str]:
        return {
            "HUBBACKUP_HOOK": which,
            "HUBBACKUP_RUN_ID": run.run_id,
            "HUBBACKUP_DATABASE": written(databases),
        }

    def _run(self, run: Run, hook: Hook, env: dict[str, str], seconds: float, *, last: bool = False) -> None:
        """`last`: a stop only leaves it less time."""
        run.log.info("hook.started", message=f"{hook.setting} started in {hook.place}", hook=hook.setting)
        began = time.monotonic()
        try:
            running = _Running(run.cancel, began + seconds, last=last)
            code, output = running.follow(self.open_runner(running.own, hook.local), hook, env)
        except HubbackupError as error:
            self._tell_failed(run, hook, str(error), time.monotonic() - began, None, "")
            raise HubbackupError(f"{hook.setting} failed: {error}", remedy=error.remedy) from error
        took = time.monotonic() - began
        if not code and not running.ended_by:
            run.log.info(
                "hook.finished",
                message=f"{hook.setting} ended well, after {took:.1f} s",
                hook=hook.setting,
                seconds=round(took, 3),
                output=output,
            )
            return
        if not last:
            run.cancel.check()
        why = running.ended_by or _why(hook, code)
        words = sentence(output.strip().rpartition("\n")[2])
        cause = f"{hook.setting} {why}{f': {words}' if words else ''}"
        self._tell_failed(run, hook, cause, took, code, output)
        raise HubbackupError(cause, remedy=f"run it by hand, in {hook.place}: {shlex.join(hook.argv)}")

    @staticmethod
    def _tell_failed(run: Run, hook: Hook, cause: str, took: float, code: int | None, output: str) -> None:
        run.log.error(
            "hook.failed",
            message=cause,
            hook=hook.setting,
            code=code,
            seconds=round(took, 3),
            output=output,
            remedy=f"run it by hand, in {hook.place}: {shlex.join(hook.argv)}",
        )


@dataclass(frozen=True)
class WithHooks(Generic[R_co]):
    """A job with the hooks around it: whatever comes of the one before, the one after is run, once."""

    job: Job[R_co]
    hooks: Hooks
    databases: tuple[str, ...]
    needs_lock: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    @property
    def kind(self) -> RunKind:
        """The job's own."""
        return self.job.kind

    def __call__(self, run: Run) -> Outcome[R_co]:
        """Raises what the job raises; HubbackupError where the hook before it fails: then it is not done.

        Neither is run where there is nothing to do, or where a run elsewhere is at work.
        """
        tell = run.on_begin

        def begin() -> None:
            tell()
            self.hooks.before(run, self.databases)

        run.on_begin = begin
        try:
            if not getattr(self.job, "begins_itself", False):
                run.begin()
            outcome = self.job(run)
        except BaseException as error:
            if run.begun or not isinstance(error, LockHeldError):
                self.hooks.after(run, self.databases, error)
            raise
        finally:
            run.on_begin = tell
        if outcome.not_needed:
            return outcome
        problems = self.hooks.after(run, self.databases, outcome)
        return replace(outcome, problems=(*outcome.problems, *problems)) if problems else outcome


class _Running:
    """One command, followed to its end. `ended_by`: why it was ended, where it did not end by itself."""

    def __init__(self, cancel: Cancel, deadline: float, *, last: bool) -> None:
        self.own = Cancel()
        self.ended_by = ""
        self._cancel = cancel
        self._deadline = deadline
        self._began = time.monotonic()
        self._stops = not last
        self._may_be_shortened = last and not cancel.is_set()

    def follow(self, runner: Runner, hook: Hook, env: dict[str, str]) -> tuple[int, str]:
        """Its exit code, and the ends of its output. Raises HubbackupError."""
        output = Tail(OUTPUT_BYTES, OUTPUT_BYTES // 4)
        with runner.start(["sh", "-c", WATCHED, "hubbackup-hook", *hook.argv], env, stdin=True) as process:
            reading = threading.Thread(target=_read, args=(process, output), name="hook", daemon=True)
            reading.start()
            asked = time.monotonic()
            while reading.is_alive():
                reading.join(TICK_SECONDS)
                if self._is_to_end():
                    process.close_stdin()
                    reading.join(KILL_SECONDS + LAST_WORDS_SECONDS)
                    break
                if time.monotonic() > asked + ASK_SECONDS:
                    asked = time.monotonic()
                    if not process.running():
                        reading.join(LAST_WORDS_SECONDS)
                        break
            code = 0 if self.ended_by and reading.is_alive() else process.wait().code
            self.own.set()
        return code, output.text()

    def _is_to_end(self) -> bool:
        now = time.monotonic()
        if self._cancel.is_set():
            if self._stops:
                self.ended_by = "was ended, since the run was stopped"
                return True
            if self._may_be_shortened:
                self._may_be_shortened = False
                self._deadline = min(self._deadline, now + AFTER_STOP_SECONDS)
        if now > self._deadline:
            self.ended_by = f"was ended after {now - self._began:.0f} s"
        return bool(self.ended_by)


def _read(process: Process, output: Tail) -> None:
    try:
        for chunk in process.chunks():
            output.add(chunk)
    except (StreamError, StoppedError, OSError, ValueError):
        return  # how it ended is told by its exit


def _why(hook: Hook, code: int) -> str:
    if code == NOT_FOUND:
        return f"was not found in {hook.place}"
    if code == NOT_EXECUTABLE:
        return f"can't be executed in {hook.place}"
    return f"ended with exit code {code}"


def _result(ending: Outcome[R_co] | BaseException) -> dict[str, str]:
    """What the hook after a run is told of it."""
    if isinstance(ending, Outcome):
        result = "degraded" if ending.problems else "success"
        return {
            "HUBBACKUP_RESULT": result,
            "HUBBACKUP_EXIT_CODE": str(ending.exit_code),
            "HUBBACKUP_BACKUP_NAME": str(ending.result.facts().get("name") or ""),
        }
    error = ending if isinstance(ending, HubbackupError) else HubbackupError(f"{type(ending).__name__}: {ending}")
    return {
        "HUBBACKUP_RESULT": "stopped" if isinstance(error, StoppedError) else "failed",
        "HUBBACKUP_EXIT_CODE": str(error.exit_code),
        "HUBBACKUP_BACKUP_NAME": "",
        "HUBBACKUP_CAUSE": sentence(str(error)),
    }
