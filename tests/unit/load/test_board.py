"""What the sessions of a parallel load are given, in which order: nothing too early, nothing twice, all of it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.load.board import Board
from hubbackup.load.dump_text import Range, Text
from hubbackup.load.plan import Build, ForeignKey, Plan, TableLoad
from hubbackup.load.tasks import Alone, Fill, Indexes, Script, Stretch, Task

TEXT = Text(0, 1)


def table(name: str, place: int, row_bytes: int, builds: Sequence[int] = (), then: Sequence[int] = ()) -> TableLoad:
    blocks = (CopyBlock(name, place, 10, row_bytes, 1, ""),) if row_bytes else ()
    return TableLoad(
        name,
        blocks,
        freeze=True,
        why_not="",
        builds=tuple(Build(f"{name}_{number}", TEXT, cost) for number, cost in enumerate(builds)),
        then=tuple(Build(f"{name}_then_{number}", TEXT, cost) for number, cost in enumerate(then)),
    )


MEGABYTE = 1 << 20
sizes = st.integers(0, 40) | st.integers(0, 40 * MEGABYTE)
costs = st.lists(sizes, max_size=4)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    places = iter(range(0, 1000, 10))

    def tables(word: str, most: int) -> tuple[TableLoad, ...]:
        return tuple(
            table(f"{word}{number}", next(places), draw(sizes), draw(costs), draw(costs))
            for number in range(draw(st.integers(0, most)))
        )

    loads, last = tables("load", 6), tables("last", 2)
    names = [each.table for each in (*loads, *last)] + ["elsewhere"]
    keys = draw(st.lists(st.frozensets(st.sampled_from(names), min_size=1, max_size=2), max_size=5))
    return Plan(
        pre=(TEXT,),
        first=tables("first", 2),
        loads=loads,
        last=last,
        data=tuple(Range(next(places), next(places)) for _ in range(draw(st.integers(0, 2)))),
        foreign_keys=tuple(ForeignKey(f"key{at}", TEXT, each, draw(sizes)) for at, each in enumerate(keys)),
        rest=(TEXT,),
    )


@given(plan=plans(), jobs=st.integers(1, 4), in_order=st.booleans(), chooser=st.randoms(use_true_random=False))
def test_everything_is_done_once_and_nothing_too_early(
    plan: Plan, jobs: int, in_order: bool, chooser: object
) -> None:
    """Whoever is quicker: rows come before indexes, indexes before keys, keys before the rest; and it ends."""
    board = Board(plan, in_order=in_order)
    at_work: list[list[Task]] = []
    done: list[Task] = []
    while not board.is_over:
        while len(at_work) < jobs and (tasks := board.take()):
            for task in tasks:
                check_may_begin(plan, task, done, [other for batch in at_work for other in batch], in_order=in_order)
            at_work.append(tasks)
        assert at_work, "everybody waits for nobody"
        for task in at_work.pop(chooser.randrange(len(at_work))):  # type: ignore[attr-defined]
            board.done(task)
            done.append(task)
    assert board.take() == []
    filled = [task.table.table for task in done if isinstance(task, Fill | Alone)]
    assert sorted(filled) == sorted(each.table for each in plan.tables if each.blocks or each not in plan.loads)
    built = [build for task in done if isinstance(task, Indexes) for build in task.builds]
    assert len(built) == sum(len(each.builds) + len(each.then) for each in plan.loads)
    assert [each for task in done if isinstance(task, Stretch) for each in task.ranges] == list(plan.data)
    assert {id(task) for task in done if isinstance(task, ForeignKey)} == {id(key) for key in plan.foreign_keys}
    assert (board.tables_done, board.indexes_done) == (board.tables, board.indexes)
    assert sorted(board.take_full()) == sorted(each.table for each in plan.tables)


def check_may_begin(plan: Plan, task: Task, done: Sequence[Task], at_work: Sequence[Task], *, in_order: bool) -> None:
    if isinstance(task, Script | Alone):
        assert at_work == [], "it is to be alone"
    if not isinstance(task, Script):
        assert any(isinstance(each, Script) for each in done), "there is no schema yet"
    filled = {each.table.table for each in done if isinstance(each, Fill | Alone)}
    if isinstance(task, Fill | Stretch) and in_order:
        assert not any(isinstance(each, Fill | Stretch) for each in at_work if each is not task)
    if isinstance(task, Indexes):
        assert task.table.table in filled or not task.table.blocks
    if isinstance(task, ForeignKey):
        assert all(not task.tables & key.tables for key in at_work if isinstance(key, ForeignKey))
        for each in plan.tables:
            if each.table in task.tables:
                assert each.table in filled or not each.blocks
                built = [
                    one
                    for other in done
                    if isinstance(other, Indexes) and other.table is each
                    for one in other.builds
                ]
                assert each not in plan.loads or len(built) == len(each.builds) + len(each.then)


def test_what_takes_longest_is_begun_first() -> None:
    """A table with a slow index comes before a larger one without, and its index before any table that is left."""
    slow = table("slow", 0, 50 * MEGABYTE, [200 * MEGABYTE])
    large = table("large", 10, 100 * MEGABYTE, [10 * MEGABYTE])
    other = table("other", 20, 90 * MEGABYTE)
    board = Board(Plan(pre=(TEXT,), loads=(large, other, slow), rest=(TEXT,)))
    (schema,) = board.take()
    board.done(schema)
    (first,), (second,) = board.take(), board.take()
    assert (first, second) == (Fill(slow), Fill(large))
    board.done(first)
    assert board.take() == [Indexes(slow, slow.builds)]


def test_small_tasks_come_in_batches() -> None:
    """Thousands of small tables are not asked after one by one, and their indexes are not either."""
    small = tuple(table(f"small{number}", number, 100, [50]) for number in range(200))
    board = Board(Plan(pre=(TEXT,), loads=small, rest=(TEXT,)))
    asked = 0
    while not board.is_over:
        tasks = board.take()
        asked += 1
        for task in tasks:
            board.done(task)
    assert asked < 20


def test_who_is_alone_is_told_so() -> None:
    """The only index of the only table leaves the others idle; of two, only the last one does."""
    one = table("one", 0, 50 * MEGABYTE, [20 * MEGABYTE])
    board = Board(Plan(pre=(TEXT,), loads=(one,), rest=(TEXT,)))
    board.done(board.take()[0])
    (fill,) = board.take()
    board.done(fill)
    build = board.take()
    assert board.leaves_others_idle(build)
    two = table("two", 0, 50 * MEGABYTE, [20 * MEGABYTE, 15 * MEGABYTE])
    board = Board(Plan(pre=(TEXT,), loads=(two,), rest=(TEXT,)))
    board.done(board.take()[0])
    board.done(board.take()[0])
    first = board.take()
    assert not board.leaves_others_idle(first)
    second = board.take()
    assert not board.leaves_others_idle(second)
    board.done(first[0])
    assert board.leaves_others_idle(second)


def test_who_keeps_the_others_waiting_is_told_so_beforehand() -> None:
    """An index that takes far longer than all others together is begun with the others' processors."""
    giant = table("giant", 0, 50 * MEGABYTE, [90 * MEGABYTE, 20 * MEGABYTE, 20 * MEGABYTE])
    board = Board(Plan(pre=(TEXT,), loads=(giant,), rest=(TEXT,)))
    board.done(board.take()[0])
    board.done(board.take()[0])
    (longest,) = board.take()
    assert longest.cost == 90 * MEGABYTE
    assert board.leaves_others_idle([longest])
    other = board.take()
    assert not board.leaves_others_idle(other)
