"""How a dump is loaded: by how many sessions at once, and how much memory each of them may take for an index."""

from __future__ import annotations

from dataclasses import dataclass

from hubbackup.load.loader import Loader
from hubbackup.load.plan import Serial
from hubbackup.load.proof import DumpProof
from hubbackup.load.serial import load_serially
from hubbackup.postgres.server import Server
from hubbackup.runners.resources import Resources

AUTO = 0
MOST = 4
"""What AUTO asks for at most: more sessions than processors only get in each other's way."""
UNKNOWN = 2
"""Where it is not known how many processors the server has."""
SMALL_BYTES = 32 << 20
"""Rows that one session loads sooner, for AUTO, than several are started and have divided the work among them."""
KEPT = 4
"""Connections that the rest of a restore takes, and the application's next one."""
SHARE = 8
"""All sessions together may take this part of the memory for building indexes."""
LEAST_BYTES, MOST_BYTES, UNKNOWN_BYTES = 16 << 20, 512 << 20, 64 << 20


@dataclass(frozen=True)
class Sessions:
    """`count` that load at once, each with `memory_bytes` of maintenance_work_mem. `why`: why there are so few."""

    count: int = 1
    memory_bytes: int = UNKNOWN_BYTES
    why: str = ""


def sessions_for(asked: int, resources: Resources, server: Server) -> Sessions:
    """As many as were `asked` for, or for AUTO as the server has processors; as far as it has connections free."""
    wanted = asked or min(MOST, resources.processors or UNKNOWN)
    free = max(1, server.free_connections - KEPT)
    count = min(wanted, free)
    why = f"the server has {server.free_connections} connections free" if count < wanted else ""
    memory_bytes = resources.memory_bytes // SHARE // count if resources.memory_bytes else UNKNOWN_BYTES
    return Sessions(count, max(LEAST_BYTES, min(MOST_BYTES, memory_bytes)), why)


def are_worth_it(asked: int, row_bytes: int) -> bool:
    """Whether several sessions are to be had at all: for AUTO not where one is done before they have begun."""
    return row_bytes >= SMALL_BYTES if asked == AUTO else asked > 1


def wants_several(asked: int, proof: DumpProof) -> bool:
    """Whether this dump is to be loaded by several sessions, as far as its server has room for them."""
    row_bytes = sum(block.row_bytes for block in proof.facts.blocks)
    return proof.reading is not None and are_worth_it(asked, row_bytes)


@dataclass(frozen=True)
class Choice:
    """A loader. `sessions`: of how many; `why`: why not of more; `serial`: what one session does, and why."""

    loader: Loader = load_serially
    sessions: int = 1
    why: str = ""
    serial: tuple[Serial, ...] = ()


def choose_loader(asked: int, proof: DumpProof, resources: Resources, server: Server) -> Choice:
    """The loader for `asked` sessions, where this dump `wants_several`: the serial one where there is no more to be
    had."""
    if proof.reading is None:
        return Choice()
    sessions = sessions_for(asked, resources, server)
    if sessions.count == 1:
        return Choice(why=sessions.why)
    from hubbackup.load.parallel import ParallelLoader  # here: every command's start would wait for them
    from hubbackup.load.schedule import plan_of

    plan = plan_of(proof.reading, proof.facts)
    if plan.whole:
        return Choice(why=plan.whole)
    loader = ParallelLoader(plan, sessions.count, sessions.memory_bytes, resources.buffers_input)
    return Choice(loader, sessions.count, sessions.why, plan.serial)
