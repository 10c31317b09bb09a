from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import pytest

from ctkit import compute, stopping
from ctkit.console.output import Console
from ctkit.session.session import Session


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_first_press_asks_for_an_end_and_says_so_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with stopping.patient():
        stopping.check()
        press()
        assert stopping.asked()
        assert capfd.readouterr().err == f"\nctkit: {stopping.NOTICE}\n"
        with pytest.raises(KeyboardInterrupt):
            stopping.check()


def test_the_second_press_stops_at_once() -> None:
    with stopping.patient():
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_afterwards_one_press_is_enough_again() -> None:
    with stopping.patient():
        press()
    assert not stopping.asked()
    with pytest.raises(KeyboardInterrupt):
        press()


def test_a_run_in_another_thread_leaves_the_handler_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run() -> None:
        with stopping.patient():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_after_a_press_no_further_item_is_begun_and_those_under_way_are_finished() -> None:
    begun, finished = [], []

    class Ahead:
        """Workers that take one item ahead, as real ones do."""

        def run(self, work: object, items: Iterable[int], *, name: object) -> Iterator[compute.Done[int, None]]:
            under_way: list[int] = []
            for item in items:
                begun.append(item)
                under_way.append(item)
                if len(under_way) == 2:
                    yield compute.Done(under_way.pop(0), None)
            yield from (compute.Done(item, None) for item in under_way)

    session = SimpleNamespace(console=Console(quiet=True), workers=Ahead())
    with stopping.patient(), pytest.raises(KeyboardInterrupt):
        for outcome in Session.parallel(session, "describe", print, range(100), total=100, name=str):  # type: ignore[arg-type]
            finished.append(outcome.item)
            if outcome.item == 3:
                press()
    assert begun == finished == [0, 1, 2, 3, 4]
