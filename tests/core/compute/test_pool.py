from __future__ import annotations

import ctypes
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

from ctkit import compute, stopping
from ctkit.compute import workers as started
from ctkit.compute.child import Cause, Died, Outcome
from ctkit.compute.pool import Backend, Done, Lost, Workers, usable_cores
from ctkit.compute.workers import AHEAD, Worker
from ctkit.errors import CtkitError, DataError, RequestError, StorageError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
pytestmark = pytest.mark.filterwarnings("ignore:Port .* is already in use:UserWarning")  # another cluster's dashboard

WORKERS = 2


@pytest.fixture(scope="module", params=["processes", "dask"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    backend = Backend(request.param, WORKERS, time_limit=2.0)
    with Workers(backend) as started:
        yield started


def outcomes(workers: Workers, work: Any, items: Any) -> tuple[dict[Any, Any], dict[Any, Lost[Any]]]:
    """Results and losses by item; every item must come out exactly once."""
    done, lost = {}, {}
    for outcome in workers.run(work, items, name=str):
        assert outcome.item not in done.keys() | lost.keys()
        if isinstance(outcome, Done):
            done[outcome.item] = outcome.result
        else:
            lost[outcome.item] = outcome
    return done, lost


def stopping_itself(number: int, once: int, always: int, folder: Path) -> int:
    mark = folder / str(number)
    if number == always or (number == once and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return number * number


def square(number: int) -> int:
    return number * number


def killing_itself(number: int, fatal: tuple[int, ...], sent: int) -> int:
    if number in fatal:
        os.kill(os.getpid(), sent)
    return number * number


def killing_itself_once(number: int, folder: Path) -> int:
    mark = folder / str(number)
    if number == 5 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def hanging(number: int) -> int:
    if number == 3:
        ctypes.PyDLL(None).sleep(600)  # native code that never lets the interpreter go on
    return number * number


def test_every_item_is_done_once(workers: Workers) -> None:
    done, lost = outcomes(workers, square, range(50))
    assert done == {number: number * number for number in range(50)}
    assert not lost


def test_no_items_is_no_work(workers: Workers) -> None:
    assert outcomes(workers, square, []) == ({}, {})


def process(number: int) -> int:
    return os.getpid()


def test_workers_are_kept_from_run_to_run(workers: Workers) -> None:
    first, _ = outcomes(workers, process, range(20))
    second, _ = outcomes(workers, process, range(20))
    assert len({*first.values(), *second.values()}) <= WORKERS
    assert os.getpid() not in first.values()


def test_an_item_whose_worker_died_once_is_done_in_the_end(workers: Workers, tmp_path: Path) -> None:
    done, lost = outcomes(workers, partial(killing_itself_once, folder=tmp_path), range(20))
    assert done == {number: number * number for number in range(20)}
    assert not lost
    assert {path.name for path in tmp_path.iterdir()} == {"5"}


def test_an_item_that_kills_every_worker_is_lost_and_nothing_else(workers: Workers) -> None:
    work = partial(killing_itself, fatal=(0, 7), sent=signal.SIGSEGV)
    done, lost = outcomes(workers, work, range(12))
    assert done == {number: number * number for number in range(12) if number not in (0, 7)}
    assert set(lost) == {0, 7}
    assert all(loss.reason == "the process that worked on it died (SIGSEGV)" for loss in lost.values())
    assert {loss.cause for loss in lost.values()} == {Cause.DIED}


def test_after_ctrl_c_nothing_is_tried_again(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def attempt(alone: Worker, work: bytes, arguments: bytes, limit: float) -> Outcome:
        tried.append(arguments)
        signal.raise_signal(signal.SIGINT)
        return Died(Cause.DIED, "it ended")

    def attempt_alone(*arguments: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(Worker, "attempt", attempt)
            return really(*arguments)

    really = compute.pool.attempt_alone
    monkeypatch.setattr(compute.pool, "attempt_alone", attempt_alone)
    work = partial(killing_itself, fatal=(0, 3), sent=signal.SIGSEGV)
    with stopping.patient(), pytest.raises(KeyboardInterrupt):
        outcomes(workers, work, range(4))
    assert len(tried) == 1


def test_an_item_that_hangs_is_ended_after_its_time_limit(workers: Workers) -> None:
    done, lost = outcomes(workers, hanging, range(8))
    assert done == {number: number * number for number in range(8) if number != 3}
    assert lost == {3: Lost(3, "took longer than 2 s", Cause.TIME)}


def test_a_worker_that_is_stopped_is_ended_after_the_time_limit_and_its_item_tried_again(tmp_path: Path) -> None:
    with Workers(Backend("processes", WORKERS, time_limit=1.0)) as workers:
        done, lost = outcomes(workers, partial(stopping_itself, once=1, always=2, folder=tmp_path), range(4))
    assert done == {0: 0, 1: 1, 3: 9}
    reason = "the process that worked on it was stopped, or waited for a disk, for 1 s"
    assert lost == {2: Lost(2, reason, Cause.STOPPED)}


def test_a_worker_that_is_stopped_while_it_has_nothing_to_do_is_replaced() -> None:
    def process(number: int) -> int:
        return os.getpid()

    with Workers(Backend("processes", 1, time_limit=1.0)) as workers:
        before, _ = outcomes(workers, process, range(2))
        os.kill(before[0], signal.SIGSTOP)
        after, lost = outcomes(workers, process, range(2))
    assert not lost
    assert not set(before.values()) & set(after.values())


def test_an_exception_costs_its_item_and_tells_no_secret(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    def picky(number: int) -> int:
        if number == 1:
            raise ValueError("patient John Doe")
        if number == 2:
            raise DataError("nothing of the volume can be read")
        if number == 3:
            sys.exit("John Doe again")
        return number

    with caplog.at_level(logging.DEBUG, "ctkit"):
        done, lost = outcomes(workers, picky, range(5))
    assert done == {0: 0, 4: 4}
    assert {item: loss.reason for item, loss in lost.items()} == {
        1: "failed with ValueError",
        2: "nothing of the volume can be read",
        3: "failed with SystemExit",
    }
    assert {loss.cause for loss in lost.values()} == {Cause.RAISED}
    assert all("John Doe" not in record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG)
    assert any("patient John Doe" in record.getMessage() for record in caplog.records)


def test_an_exception_that_cannot_be_pickled_costs_its_item_only(workers: Workers) -> None:
    class StubbornError(Exception):
        def __reduce__(self) -> str:
            raise TypeError("never")

    def stubborn(number: int) -> int:
        if number == 1:
            raise StubbornError
        return number

    done, lost = outcomes(workers, stubborn, range(4))
    assert set(done) == {0, 2, 3}
    assert lost[1].reason == "failed with StubbornError"


def test_a_full_disk_stops_the_run(workers: Workers) -> None:
    def full(number: int) -> int:
        if number == 4:
            raise StorageError("the disk is full: cannot write evidence")
        return number

    with pytest.raises(StorageError, match=r"^the disk is full: cannot write evidence$"):
        outcomes(workers, full, range(100))
    assert len(outcomes(workers, square, range(4))[0]) == 4


def test_too_little_memory_costs_its_item_after_a_second_try(workers: Workers) -> None:
    def greedy(number: int) -> int:
        if number == 1:
            raise MemoryError
        return number

    done, lost = outcomes(workers, greedy, range(4))
    assert set(done) == {0, 2, 3}
    assert lost == {1: Lost(1, "ran out of memory", Cause.MEMORY)}


def test_items_are_taken_lazily(workers: Workers) -> None:
    taken = itertools.count()
    items = (next(taken) for _ in range(1000))
    run = workers.run(square, items, name=str)
    for _ in range(3):
        next(run)
    assert next(taken) <= 3 + AHEAD * WORKERS
    run.close()


def test_a_run_that_is_left_early_leaves_workers_for_the_next(workers: Workers) -> None:
    run = workers.run(square, range(100), name=str)
    next(run)
    run.close()
    assert len(outcomes(workers, square, range(10))[0]) == 10


def test_a_run_may_be_started_inside_another(workers: Workers) -> None:
    inner = {}
    outer = set()
    for outcome in workers.run(square, range(8), name=str):
        outer.add(outcome.item)
        inner[outcome.item], _ = outcomes(workers, square, range(3))
    assert outer == set(range(8))
    assert all(done == {0: 0, 1: 1, 2: 4} for done in inner.values())


def test_an_error_in_what_gives_the_items_is_raised(workers: Workers) -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        outcomes(workers, square, failing())


def test_work_that_a_worker_cannot_import_is_an_error_that_says_so(workers: Workers) -> None:
    class Missing:
        def __reduce__(self) -> Any:
            return (__import__, ("ctkit_plugin_that_is_not_there",))

    with pytest.raises(CtkitError, match="No module named 'ctkit_plugin_that_is_not_there'; the same ctkit"):
        outcomes(workers, partial(map, Missing()), range(3))


def test_a_worker_has_one_thread_and_hears_no_interrupt(workers: Workers) -> None:
    def facts(number: int) -> tuple[str | None, bool]:
        os.kill(os.getpid(), signal.SIGINT)
        return os.environ.get("OMP_NUM_THREADS"), threading.current_thread().is_alive()

    done, lost = outcomes(workers, facts, range(4))
    assert set(done.values()) == {("1", True)}
    assert not lost


def test_one_worker_is_still_a_process_of_its_own() -> None:
    work = partial(killing_itself, fatal=(1,), sent=signal.SIGKILL)
    with Workers(Backend("processes", 1, time_limit=60.0)) as workers:
        done, lost = outcomes(workers, work, range(5))
    assert set(done) == {0, 2, 3, 4}
    assert lost[1].reason == "the process that worked on it died (SIGKILL, as when memory runs out)"


def test_workers_that_cannot_start_end_the_run() -> None:
    class Poison:
        def __reduce__(self) -> Any:
            return (os._exit, (3,))

    with Workers(Backend("processes", 1)) as workers, pytest.raises(CtkitError, match="before they start"):
        outcomes(workers, partial(map, Poison()), range(100))


def test_an_unknown_scheduler_is_a_wrong_request() -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        workers = Workers(Backend("dask", 1, scheduler="tcp://127.0.0.1:9"))
        with workers, pytest.raises(RequestError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9; start"):
            outcomes(workers, square, range(3))


@pytest.mark.parametrize("workers", ["dask"], indirect=True)
def test_an_existing_cluster_is_used_and_left_running(workers: Workers) -> None:
    outcomes(workers, square, range(1))
    assert workers._cluster is not None
    address = workers._cluster._client.scheduler.address
    with Workers(Backend("dask", 1, scheduler=address)) as others:
        assert outcomes(others, square, range(5))[0] == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16}
    assert len({*outcomes(workers, process, range(20))[0].values()}) <= WORKERS


def test_cores_are_counted_within_our_affinity() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_a_machine_that_does_not_say_its_physical_cores_costs_no_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loky.cpu_count", lambda: os.cpu_count())
    monkeypatch.setattr("psutil.cpu_count", lambda logical: None)
    assert usable_cores() == os.cpu_count()
    assert capfd.readouterr() == ("", "")


SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
from ctkit.compute import Backend, Workers

def work(folder, number):
    if number < 4:
        return number
    Path(folder, str(number)).touch()
    time.sleep(600)

if __name__ == "__main__":
    with Workers(Backend("processes", 2, time_limit=600.0)) as workers:
        for outcome in workers.run(partial(work, sys.argv[1]), range(100), name=str):
            pass
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_nothing_keeps_running_when_the_main_process_ends(tmp_path: Path, sent: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as main:
        while len(list(tmp_path.glob("[0-9]*"))) < WORKERS:
            assert main.poll() is None
            time.sleep(0.02)
        children = psutil.Process(main.pid).children(recursive=True)
        assert len(children) >= WORKERS
        os.killpg(main.pid, sent) if sent == signal.SIGINT else main.kill()
        _, errors = main.communicate(timeout=20)
    assert not psutil.wait_procs(children, timeout=20)[1]
    if sent == signal.SIGINT:
        assert errors.count("Traceback") == 1  # of the main process, which has no command line around it here
        assert errors.splitlines()[-1] == "KeyboardInterrupt"


def process_of(number: int) -> int:
    return os.getpid()


def variable(name: str) -> str | None:
    return os.environ.get(name)


def test_workers_take_processes_that_were_started_early_and_the_others_end() -> None:
    with compute.started_early(2, "json, ctkit.errors"), Workers(Backend("processes", 1)) as workers:
        early = [child for child, _ in started._early]
        (done,) = workers.run(process_of, [0], name=str)
        assert isinstance(done, Done)
        assert done.result in {child._process.pid for child in early}
    assert not any(child.is_alive for child in early)


def test_workers_leave_a_process_that_has_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with compute.started_early(1, "json"), Workers(Backend("processes", 1)) as workers:
        ((child, _),) = started._early
        monkeypatch.setenv("CTKIT_LATER", "1")
        (done,) = workers.run(variable, ["CTKIT_LATER"], name=str)
        assert isinstance(done, Done)
        assert done.result == "1"
        assert not child.is_alive
