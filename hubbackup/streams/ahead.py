"""A question that takes its time, asked before its answer is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def ahead(name: str, ask: Callable[[], T]) -> Future[T]:
    """Ask in a thread of that `name`. Who wants the answer waits for it, and gets what it raises; nobody has to."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised to whoever wants the answer
            answer.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return answer
