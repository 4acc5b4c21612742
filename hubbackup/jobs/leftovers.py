"""Leftovers: what runs that were killed left behind, removed by a later run, and reported in one event for each kind.

How a kind is found and removed stands beside what makes it: a store, the runner, the restore. A job lists its kinds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hubbackup.errors import HubbackupError, StoppedError

if TYPE_CHECKING:
    import structlog


@dataclass(frozen=True)
class Leftovers:
    """One kind. `remove` finds and removes them and returns what to call them, in the order of the log.

    `event` reports them with `message`, in which `{count}` stands for how many they are, and `{names}` for which;
    `failed` reports that they could not be removed, or not even looked for.
    """

    remove: Callable[[], Sequence[str]]
    event: str = "leftovers.removed"
    message: str = "leftovers removed"
    level: int = logging.INFO
    fields: Mapping[str, object] = field(default_factory=dict)
    failed: str = "clean.failed"
    failed_level: int = logging.WARNING


def remove_leftovers(log: structlog.stdlib.BoundLogger, kinds: Iterable[Leftovers]) -> None:
    """Remove every kind. What can't be removed now is reported, and the next run tries again. Raises StoppedError."""
    for kind in kinds:
        try:
            names = list(kind.remove())
        except StoppedError:
            raise
        except HubbackupError as error:
            log.log(kind.failed_level, kind.failed, message=str(error), remedy=error.remedy, **kind.fields)
            continue
        if names:
            message = kind.message.format(count=len(names), names=", ".join(names))
            log.log(kind.level, kind.event, message=message, count=len(names), names=names, **kind.fields)
