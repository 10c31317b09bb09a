from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

from ctkit import compute, stopping
from ctkit.compute import devices
from ctkit.compute.device_pool import Call, Coroutine, DevicePool, Wait
from ctkit.errors import CtkitError, DataError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # processes cannot import the tests

Told = Callable[[object], None]


@pytest.fixture(scope="module", params=[0, 2], ids=["here", "children"])
def pool(request: pytest.FixtureRequest) -> Iterator[DevicePool]:
    with DevicePool([{"NAME": name} for name in ("a", "b")[: request.param]]) as started:
        yield started


@pytest.fixture(scope="module")
def pair() -> Iterator[DevicePool]:
    with DevicePool([{"NAME": "a"}, {"NAME": "b"}]) as started:
        yield started


def calling(work: Callable[..., Any], hear: Told = lambda _: None) -> Coroutine[Any]:
    """One call; what it raises is its result."""
    try:
        return (yield Call(work, {"tell": hear}))
    except Exception as error:
        return error


def squared(number: int, tell: Told) -> int:
    for step in range(3):
        tell(step)
    return number * number


def test_results_come_in_the_order_of_the_coroutines_and_news_before_them(pool: DevicePool) -> None:
    told: dict[int, list[object]] = {number: [] for number in range(5)}
    coroutines = [calling(partial(squared, number), told[number].append) for number in told]
    assert pool.run(coroutines) == [0, 1, 4, 9, 16]
    assert all(steps == [0, 1, 2] for steps in told.values())


def twice(number: int) -> Coroutine[int]:
    first: int = yield Call(partial(squared, number), {"tell": lambda _: None})
    second: int = yield Call(partial(squared, first), {"tell": lambda _: None})
    return second


def test_a_coroutine_may_have_several_calls_or_none(pool: DevicePool) -> None:
    def idle() -> Coroutine[str]:
        yield from ()
        return "nothing to do"

    assert pool.run([twice(2), idle(), twice(3)]) == [16, "nothing to do", 81]


def failing(error: Exception, tell: Told) -> None:
    raise error


class Unsendable(Exception):  # noqa: N818  # the test is of its kind
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def failing_strangely(tell: Told) -> None:
    raise Unsendable("a", "b")


def test_what_a_call_raises_is_raised_in_its_coroutine_and_the_others_go_on(pool: DevicePool) -> None:
    known = DataError("no slice is readable", retry=True)
    failed, squares, strange = pool.run(
        [calling(partial(failing, known)), calling(partial(squared, 3)), calling(failing_strangely)]
    )
    assert (type(failed), str(failed), failed.retry) == (DataError, str(known), True)
    assert squares == 9
    assert "a b" in str(strange)


def test_what_a_coroutine_itself_raises_ends_all(pool: DevicePool) -> None:
    def broken() -> Coroutine[None]:
        yield Call(partial(squared, 1), {"tell": lambda _: None})
        raise ValueError("the disk is full")

    left = []

    def other() -> Coroutine[None]:
        try:
            yield Call(partial(until_told, 60), {"tell": lambda _: None})
        finally:
            left.append("closed")

    with pytest.raises(ValueError, match="the disk is full"):
        pool.run([broken(), other()])
    assert left == ["closed"] * (pool.size > 1)  # where there is one process, it was not begun
    assert pool.run([calling(partial(squared, 2))]) == [4]


def until_told(seconds: float, tell: Told) -> str:
    """Work in pieces as a training does: until it is asked to stop."""
    tell(os.getpid())
    for _ in range(int(seconds / 0.01)):
        if stopping.asked():
            raise KeyboardInterrupt
        time.sleep(0.01)
    return "done"


def meeting(expected: int, folder: Path, tell: Told) -> str:
    """Wait until so many have come, which takes as many processes."""
    mine = os.environ["NAME"]
    (folder / mine).touch(exist_ok=False)
    while len(list(folder.iterdir())) < expected:
        time.sleep(0.01)
    return mine


def test_as_many_as_there_are_processes_go_on_at_once_each_in_its_environment(pair: DevicePool, tmp_path: Path) -> None:
    met = pair.run([calling(partial(meeting, 2, tmp_path)) for _ in range(2)])
    assert sorted(met) == ["a", "b"]


def test_a_process_has_one_thread_where_its_environment_does_not_say_more() -> None:
    def threads(tell: Told) -> str:
        return os.environ["OMP_NUM_THREADS"]

    with DevicePool([{"OMP_NUM_THREADS": "3"}]) as few:
        assert few.run([calling(threads)]) == ["3"]
    with DevicePool([{}]) as few:
        assert few.run([calling(threads)]) == ["1"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="torch may not take more threads than there are cores")
def test_torch_has_the_threads_of_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(tell: Told) -> int:
        import torch

        return torch.get_num_threads()

    monkeypatch.setattr(compute.pool, "usable_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with DevicePool(devices.shares("cpu", 2)[:1]) as half:
        assert half.run([calling(threads)]) == [2]


def stopping_itself(tell: Told) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_process_that_is_stopped_is_ended_at_the_limit_and_fails_its_coroutine_alone() -> None:
    with DevicePool([{}, {}], limit=1.0) as two:
        stopped, four = two.run([calling(stopping_itself), calling(partial(squared, 2))])
    assert four == 4
    assert isinstance(stopped, CtkitError)
    assert str(stopped) == "the process that worked on it was stopped, or waited for a disk, for 1 s"


def dying(tell: Told) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_death_of_a_process_is_the_failure_of_its_coroutine_alone(pair: DevicePool) -> None:
    coroutines = [calling(dying), calling(partial(squared, 2)), calling(dying), calling(partial(squared, 3))]
    first, two, second, three = pair.run(coroutines)
    assert (two, three) == (4, 9)
    for died in (first, second):
        assert isinstance(died, CtkitError)
        assert str(died) == "the process that worked on it died (SIGKILL, as when memory runs out)"


def test_a_process_that_died_while_idle_fails_nobody() -> None:
    with DevicePool([{}]) as one:
        number = one.run([calling(process_id)])[0]
        os.kill(number, signal.SIGKILL)
        child = one._processes[0].child
        assert child is not None
        child._process.wait()  # until the pool can know, which takes a moment
        assert one.run([calling(partial(squared, 2))]) == [4]


def process_id(tell: Told) -> int:
    return os.getpid()


def test_a_released_pool_ends_its_processes_and_starts_others_for_what_comes_next(pair: DevicePool) -> None:
    first = set(pair.run([calling(process_id), calling(process_id)]))
    pair.release()
    assert not any(psutil.pid_exists(number) for number in first)
    assert not first & set(pair.run([calling(process_id), calling(process_id)]))


@pytest.mark.parametrize(("error", "same"), [(DataError("too few"), True), (RuntimeError("CUDA error"), False)])
def test_only_an_error_that_was_foreseen_leaves_a_process_in_use(error: Exception, same: bool) -> None:
    with DevicePool([{}]) as one:
        before, failed, after = one.run([calling(work) for work in (process_id, partial(failing, error), process_id)])
    assert type(failed) is type(error)
    assert (before == after) == same


def test_what_cannot_be_sent_or_heard_fails_its_coroutine_alone(pair: DevicePool) -> None:
    def refuse(news: object) -> None:
        raise ValueError("nobody wants to know")

    unsent = partial(squared, threading.Lock())  # type: ignore[arg-type]  # what cannot be pickled
    first, second, third = pair.run(
        [calling(unsent), calling(partial(squared, 2), refuse), calling(partial(squared, 3))]
    )
    assert isinstance(first, TypeError)
    assert isinstance(second, ValueError)
    assert third == 9


def telling_late(folder: Path, tell: Told) -> None:
    """Leave a thread that tells something during the next call."""

    def late() -> None:
        appeared(folder / "next")
        tell("too late")
        (folder / "told").touch()

    threading.Thread(target=late).start()


def telling_after(folder: Path, tell: Told) -> None:
    (folder / "next").touch()
    appeared(folder / "told")
    tell("mine")


def appeared(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def test_what_is_told_after_a_call_is_not_news_of_the_next(tmp_path: Path) -> None:
    heard: list[object] = []
    with DevicePool([{}]) as one:
        one.run([calling(partial(telling_late, tmp_path)), calling(partial(telling_after, tmp_path), heard.append)])
    assert heard == ["mine"]


class Reworded(Exception):  # noqa: N818  # the test is of its words
    def __init__(self, words: str) -> None:
        super().__init__(f"{words}!")


def rewording(tell: Told) -> None:
    raise Reworded("no slice")


def test_an_error_arrives_in_its_own_words(pair: DevicePool) -> None:
    assert str(pair.run([calling(rewording)])[0]) == "Reworded: no slice!"


def test_a_process_that_cannot_be_started_fails_its_coroutine(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*command: Any, **settings: Any) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    with DevicePool([{}]) as one:
        monkeypatch.setattr("subprocess.Popen", full)
        assert isinstance(one.run([calling(partial(squared, 2))])[0], BlockingIOError)
        monkeypatch.undo()
        assert one.run([calling(partial(squared, 2))]) == [4]


def logging_something(tell: Told) -> None:
    logging.getLogger("ctkit.models").info("step %d", 3)
    logging.getLogger("ctkit.models").debug("nobody asked for this")
    logging.getLogger("ctkit.models").warning("a lock", extra={"lock": threading.Lock()})  # which cannot be sent


def test_what_a_call_logs_is_logged_here(pool: DevicePool, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("ctkit").setLevel(logging.INFO)
    with DevicePool([{}] if pool.size > 1 else []) as fresh:  # levels are those of the moment when a process starts
        fresh.run([calling(logging_something)])
    said = [record.getMessage() for record in caplog.records if record.name == "ctkit.models"]
    assert said == ["step 3", "a lock"][: 1 if pool.size > 1 else 2]


def test_a_coroutine_that_cannot_go_on_yet_is_asked_again_while_others_work(pool: DevicePool) -> None:
    order: list[str] = []

    def patient() -> Coroutine[int]:
        while order.count("asked") < 2:
            order.append("asked")
            yield Wait()
        return (yield Call(partial(squared, 5), {"tell": lambda _: None}))

    def other() -> Coroutine[int]:
        order.append("other")
        return (yield Call(partial(squared, 2), {"tell": lambda _: None}))

    assert pool.run([patient(), other()]) == [25, 4]
    assert order == (["asked", "other", "asked"] if pool.size > 1 else ["asked", "asked", "other"])


def test_when_the_run_is_to_stop_those_under_way_save_and_no_other_begins(pair: DevicePool) -> None:
    begun: list[str] = []

    def saving(name: str, seen: Told) -> Coroutine[str]:
        begun.append(name)
        try:
            return (yield Call(partial(until_told, 60), {"tell": seen}))
        except KeyboardInterrupt:
            begun.append(f"{name} saved")
            raise

    with stopping.patient(), pytest.raises(KeyboardInterrupt):
        pair.run([saving("1", lambda _: None), saving("2", lambda _: stopping.ask()), saving("3", lambda _: None)])
    assert sorted(begun) == ["1", "1 saved", "2", "2 saved"]


def never_listening(tell: Told) -> None:
    tell(os.getpid())
    time.sleep(120)


def test_a_second_press_ends_the_processes_at_once() -> None:
    pids: list[int] = []
    ended = []

    def press_twice(main: int) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        while not stopping.asked():
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT)

    def press(pid: object) -> None:
        pids.append(int(str(pid)))
        if len(pids) == 2:
            threading.Thread(target=press_twice, args=(threading.get_ident(),)).start()

    def never() -> Coroutine[None]:
        yield Call(never_listening, {"tell": press})
        ended.append("by itself")

    with DevicePool([{}, {}]) as two, stopping.patient(), pytest.raises(KeyboardInterrupt):
        two.run([never(), never()])
    assert ended == []
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_second_press_is_heard_while_a_coroutine_works_here() -> None:
    """It would else be taken for the end of the coroutine alone, and the run wait for the other's call."""
    ended = []

    def publishing() -> Coroutine[None]:
        yield Call(partial(squared, 2), {"tell": lambda _: None})
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    def never() -> Coroutine[None]:
        yield Call(never_listening, {"tell": lambda _: None})
        ended.append("by itself")

    with DevicePool([{}, {}]) as two, stopping.patient(), pytest.raises(KeyboardInterrupt):
        two.run([publishing(), never()])
    assert ended == []
