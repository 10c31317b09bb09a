from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

from ctkit.compute import child as children
from ctkit.compute.child import Cause, Child, Died, LocalProcess, death, start_child
from ctkit.compute.worker import ONE_THREAD, Raised, Returned, pickled
from ctkit.errors import DataError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # processes cannot import the tests

START, LONG = 60.0, 30.0  # seconds, which no test takes

Start = Callable[..., LocalProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    children: list[LocalProcess] = []

    def begin(work: Callable[[Any], object], item: object = None, threads: int = 1) -> LocalProcess:
        children.append(start_child("process 2 of 2", work, item, threads))
        assert children[-1].is_ready(START)
        return children[-1]

    yield begin
    for child in children:
        child.kill()


def threads_of(name: str) -> tuple[str, int]:
    return os.environ[name], os.getpid()


def test_work_is_done_on_its_item_in_another_process_with_its_threads(start: Start) -> None:
    child = start(threads_of, "OMP_NUM_THREADS", threads=3)
    outcome = child.outcome(LONG)
    assert isinstance(outcome, Returned)
    assert outcome.result[0] == "3"
    assert outcome.result[1] != os.getpid()
    child.join(LONG)
    assert (child.died, child.failure()) == (False, None)


def test_what_is_printed_while_python_starts_is_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    (tmp_path / "sitecustomize.py").write_text('print("welcome to the cluster", flush=True)')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = start(str.upper, "done").outcome(LONG)
    assert isinstance(outcome, Returned)
    assert outcome.result == "DONE"


class Large:
    """Needs more memory than there is, to be unpickled."""

    def __reduce__(self) -> tuple[type[bytes], tuple[int]]:
        return bytes, (1 << 62,)


def test_memory_that_runs_out_before_the_work_begins_is_of_that_job_alone() -> None:
    child = Child("a process")
    try:
        outcome = child.call(pickled(len), pickled((Large(),)), LONG)
        assert isinstance(outcome, Raised)
        assert isinstance(outcome.error, MemoryError)
        assert child.call(pickled(len), pickled(("abc",)), LONG) == Returned(3)
    finally:
        child.kill()


def test_what_starts_children_travels_to_other_processes_as_a_name() -> None:
    assert pickle.loads(pickle.dumps(start_child)) is start_child
    assert len(pickle.dumps(start_child)) < 100


def damaged(item: object) -> None:
    raise DataError("a shard is damaged")


def test_what_the_work_raised_is_said_with_its_traceback_in_the_debug_log(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    child = start(damaged)
    with caplog.at_level(logging.DEBUG, "ctkit.compute"):
        child.join(LONG)
        assert child.died
        assert child.failure() == "process 2 of 2: a shard is damaged"
    assert 'raise DataError("a shard is damaged")' in caplog.text


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_process_that_is_killed_has_died_of_the_signal(start: Start) -> None:
    child = start(lambda sent: os.kill(os.getpid(), sent), signal.SIGKILL)
    child.join(LONG)
    assert child.died
    assert child.failure() == "process 2 of 2 died (SIGKILL, as when memory runs out)"
    assert child.outcome(0) == Died(Cause.MEMORY, child.failure())


def test_a_process_that_ends_before_it_answers_has_died_though_it_says_all_is_well(start: Start) -> None:
    child = start(os._exit, 0)
    assert child.outcome(LONG) == Died(Cause.DIED, "process 2 of 2 died (exit code 0)")


def refuse() -> None:
    raise ImportError("no libfoo here")


class Unloadable:
    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return refuse, ()


def test_a_process_that_cannot_load_its_work_is_never_ready() -> None:
    child = start_child("process 2 of 2", print, Unloadable())
    try:
        assert not child.is_ready(START)
        assert child.failure() == "process 2 of 2: failed with ImportError"
    finally:
        child.kill()


def endless(item: object) -> None:
    while True:
        time.sleep(60)


def test_a_process_that_goes_on_has_no_outcome_yet_and_can_be_killed_twice(start: Start) -> None:
    child = start(endless)
    assert child.outcome(0) is None
    assert (child.died, child.failure()) == (False, None)
    process = psutil.Process(child._process.pid)
    child.kill()
    child.kill()
    assert not process.is_running()


@pytest.mark.parametrize(
    ("code", "died"),
    [
        (-11, Died(Cause.DIED, "it died (SIGSEGV)")),
        (-9, Died(Cause.MEMORY, "it died (SIGKILL, as when memory runs out)")),
        (-15, Died(Cause.TERMINATED, "it died (SIGTERM)")),
        (3, Died(Cause.DIED, "it died (exit code 3)")),
    ],
    ids=["signal", "memory", "terminated", "code"],
)
def test_an_exit_code_says_what_a_process_died_of(code: int, died: Died) -> None:
    assert death("it", code) == died


def stopped(item: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system has no SIGSTOP")
def test_a_process_that_is_stopped_is_ended_at_its_limit_and_has_died_of_that() -> None:
    child = start_child("process 2 of 2", stopped, None, limit=1.0)
    assert child.is_ready(START)
    while not child.died:
        time.sleep(0.1)
    reason = "process 2 of 2 was stopped, or waited for a disk, for 1 s"
    assert (child.failure(), child.outcome(0)) == (reason, Died(Cause.STOPPED, reason))
    assert not child.is_alive


def test_a_message_that_a_stopped_process_does_not_take_hangs_nobody() -> None:
    child = Child("it")
    os.kill(child._process.pid, signal.SIGSTOP)
    try:
        child.start(pickled(len), pickled((bytes(1_000_000),)))  # more than a pipe holds
        assert child.receive(0.1) is None
    finally:
        child.kill()
    assert not child.is_alive


def test_time_that_this_process_does_not_see_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while a laptop sleeps, or after Ctrl-Z, when a child is found stopped as well."""
    child, days = start_child("it", stopped, None, limit=100.0), itertools.count()
    assert child.is_ready(START)
    monkeypatch.setattr(children.time, "monotonic", lambda: 86_400.0 * next(days))
    try:
        assert not any(child.died for _ in range(5))
    finally:
        child.kill()


def test_one_thread_is_what_libraries_get_unless_told_otherwise(start: Start) -> None:
    outcome = start(lambda names: {os.environ[name] for name in names}, tuple(ONE_THREAD)).outcome(LONG)
    assert outcome == Returned({"1"})


def returning_what_cannot_be_unpickled(item: object) -> Unloadable:
    return Unloadable()


def test_a_result_that_cannot_be_unpickled_is_an_error_of_its_job_alone() -> None:
    child = Child("it")
    try:
        failed = child.call(pickled(returning_what_cannot_be_unpickled), pickled((None,)), LONG)
        assert isinstance(failed, Raised)
        assert failed.kind == "ImportError"
        assert child.call(pickled(len), pickled(("abc",)), LONG) == Returned(3)
    finally:
        child.kill()


def with_an_orphan(item: object) -> None:
    """Start a process that starts another and ends, so that the other is nobody's child."""
    print_pid = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid)"
    command = [sys.executable, "-c", print_pid]
    Path(str(item)).write_text(subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip() or "none")
    time.sleep(600)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")
@pytest.mark.parametrize("by", ["kill", "end of the channel"])
def test_what_a_process_left_behind_ends_with_it(start: Start, tmp_path: Path, by: str) -> None:
    child, told = start(with_an_orphan, tmp_path / "pid"), tmp_path / "pid"
    while not (told.exists() and told.read_text()):
        assert child.outcome(0.05) is None
    orphan = psutil.Process(int(told.read_text()))
    if by == "kill":
        child.kill()
    else:
        child._outbox.put(None)  # as where this process ends: the other end of its standard input closes
    assert psutil.wait_procs([orphan], timeout=LONG)[1] == []
