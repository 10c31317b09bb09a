from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from ctkit.console.bars import Bars
from ctkit.console.output import Console
from ctkit.console.progress import hours, rate
from ctkit.errors import StorageError


class Clock:
    """Time that goes on only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_says_to_standard_output_and_warns_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.say("4 volumes")
    console.warn("one file is truncated")
    assert capsys.readouterr() == ("4 volumes\n", "warning: one file is truncated\n")


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.say("4 volumes")
    console.warn("one file is truncated")
    console.table(("stage",), [("scan",)])
    with console.progress("describe", 2) as progress:
        progress.advance()
    assert capsys.readouterr() == ("", "")
    assert progress.done == 1


def test_json_is_one_object_a_line_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    console = Console(as_json=True, clock=clock)
    console.say("4 volumes")
    console.warn("one file is truncated")
    console.table(("stage", "slices"), [("scan", 7)])
    with console.progress("describe", 2) as progress:
        clock.now += 31
        progress.advance()
        progress.advance()
    out, err = capsys.readouterr()
    assert err == ""
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "message", "text": "4 volumes"},
        {"event": "warning", "text": "one file is truncated"},
        {"event": "row", "stage": "scan", "slices": 7},
        {"event": "started", "task": "describe", "done": 0, "total": 2, "seconds": 0.0},
        {"event": "progress", "task": "describe", "done": 1, "total": 2, "seconds": 31.0},
        {"event": "finished", "task": "describe", "done": 2, "total": 2, "seconds": 31.0},
    ]


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(("stage", "item"), [("materialise", ""), ("select", "hash6")])
    assert capsys.readouterr().out == "stage        item\nmaterialise\nselect       hash6\n"


def test_a_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(("stage", "item"), [])
    assert capsys.readouterr().out == "stage  item\n"


def test_lines_come_every_half_minute_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock=clock).progress("describe", 1000) as progress:
        for _ in range(1000):
            clock.now += 0.5
            progress.advance()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 18  # every 60 items, and the first and last line
    assert lines[0] == "describe: 1000 to do"
    assert lines[1] == "describe: 60/1000, 2/s, 7:50 left"
    assert lines[-1] == "describe: 1000 done in 8:20"


def test_lines_are_few_when_work_is_fast(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(clock=Clock()).progress("scan", 100_000) as progress:
        for _ in range(100_000):
            progress.advance()
    assert capsys.readouterr().out == "scan: 100000 to do\n"


def test_lines_of_many_works_come_at_most_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    console = Console(clock=clock)
    for number in range(100):
        with console.progress(f"evaluate {number}", 8) as progress:
            for _ in range(8):
                clock.now += 0.125
                progress.advance()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert lines[:2] == ["evaluate 0: 8 to do", "evaluate 4: 8 done in 0:01"]


def test_what_stops_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), Console(clock=Clock()).progress("scan", 9) as progress:
        progress.advance()
        raise KeyError
    assert capsys.readouterr().out == "scan: 9 to do\nscan: stopped at 1/9 after 0:00\n"


def test_work_that_counts_nothing_only_says_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock=clock).progress("pretrain untrained", None):
        clock.now = 15.0
    assert capsys.readouterr().out == "pretrain untrained: started\npretrain untrained: done in 0:15\n"


def test_a_total_may_come_with_the_first_update(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock=clock).progress("pretrain", None) as progress:
        clock.now = 40.0
        progress.update(10, 20)
        clock.now = 80.0
        progress.update(20, 20)
    assert capsys.readouterr().out.splitlines() == [
        "pretrain: started",
        "pretrain: 10/20, 4 s each, 0:40 left",
        "pretrain: 20 done in 1:20",
    ]


def test_work_that_fails_is_said_to_have_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with Console(clock=Clock()).progress("describe", 100) as progress:
            progress.advance(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().out.splitlines()[-1] == "describe: stopped at 3/100 after 0:00"


def test_no_work_needs_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().progress("describe", 0):
        pass
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (3600 * 30 + 61, "30:01:01")]
)
def test_durations_read_as_clocks(seconds: float, text: str) -> None:
    assert hours(seconds) == text


@pytest.mark.parametrize(
    ("speed", "text"), [(None, "-"), (0, "-"), (0.1, "10 s each"), (31.416, "31.4/s"), (2000.0, "2,000/s")]
)
def test_rates_are_per_second_or_seconds_each(speed: float | None, text: str) -> None:
    assert rate(speed) == text


# --- terminal -----------------------------------------------------------------------------------------------------


def on_terminal() -> tuple[Bars, io.StringIO]:
    screen = io.StringIO()
    return Bars(RichConsole(file=screen, force_terminal=True, width=100)), screen


def test_a_bar_shows_title_count_and_rate() -> None:
    bars, screen = on_terminal()
    with bars.bar("describe [hash6]", 40) as bar:
        bar.advance(40)
    last = screen.getvalue().splitlines()[-2]
    assert "describe [hash6]" in last
    assert "40/40" in last


def test_work_inside_work_has_a_bar_that_goes_when_it_is_done() -> None:
    bars, screen = on_terminal()
    with bars.bar("describe", 2) as outer:
        with bars.bar("alone", 3) as inner:
            inner.advance()
        before = len(screen.getvalue())
        outer.advance(2)
    assert "alone" in screen.getvalue()[:before]
    assert "alone" not in screen.getvalue().splitlines()[-2]


def test_bars_can_be_shown_again_after_the_last_one_ended() -> None:
    bars, screen = on_terminal()
    for title in ("scan", "describe"):
        with bars.bar(title, 1) as bar:
            bar.advance()
    assert "scan" in screen.getvalue()
    assert "describe" in screen.getvalue().splitlines()[-2]


def test_rich_is_not_imported_before_a_bar_is_shown() -> None:
    code = """
import sys
from ctkit.console import Console
console = Console()
console.say("x")
with console.progress("scan", 3) as progress: progress.advance()
sys.exit("rich" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


# --- log ----------------------------------------------------------------------------------------------------------


def test_the_log_holds_what_was_said_and_every_warning_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "run.log"
    console = Console()
    with console.log_to(log):
        console.say("4 volumes")
        console.warn("one file is truncated")
        logging.getLogger("ctkit_models.engine").warning("the batch is lowered")
        logging.getLogger("ctkit_models.engine").debug("a secret")
        logging.getLogger("somebody").info("chatter")
        logging.getLogger("somebody").warning("a foreign warning")
    text = log.read_text()
    for part in ("INFO ctkit.console: 4 volumes", "one file is truncated", "the batch is lowered", "a foreign warning"):
        assert text.count(part) == 1
    assert "secret" not in text
    assert "chatter" not in text
    assert capsys.readouterr().err == "warning: one file is truncated\nwarning: the batch is lowered\n"


def test_a_warning_that_is_logged_again_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Console().log_to(tmp_path / "run.log"):
        for volume in (1, 1, 2):
            logging.getLogger("ctkit_theirs").warning("volume %d is tilted", volume)
        logging.getLogger("ctkit_others").warning("volume 1 is tilted")
    shown = ["volume 1 is tilted", "volume 2 is tilted", "volume 1 is tilted"]
    assert capsys.readouterr().err.splitlines() == [f"warning: {text}" for text in shown]
    assert (tmp_path / "run.log").read_text().count("is tilted") == 4


def test_python_warnings_go_to_the_log_and_not_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with Console().log_to(tmp_path / "run.log"):
            warnings.warn("an old option", stacklevel=1)
    assert "an old option" in (tmp_path / "run.log").read_text()
    assert capsys.readouterr().err == ""


def test_a_debugging_log_holds_debug_messages(tmp_path: Path) -> None:
    with Console(verbosity=2).log_to(tmp_path / "run.log"):
        logging.getLogger("ctkit.compute").debug("the traceback")
    assert "the traceback" in (tmp_path / "run.log").read_text()


def test_a_second_run_appends_and_logging_is_as_before_afterwards(tmp_path: Path) -> None:
    root, ours = logging.getLogger(), logging.getLogger("ctkit")
    before = root.level, ours.level, list(root.handlers)
    for text in ("first", "second"):
        console = Console()
        with console.log_to(tmp_path / "run.log"):
            console.say(text)
    assert [line.split(": ")[-1] for line in (tmp_path / "run.log").read_text().splitlines()] == ["first", "second"]
    assert (root.level, ours.level, root.handlers) == before


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*run.log: "), Console().log_to(tmp_path / "no" / "run.log"):
        pass


@pytest.mark.parametrize(
    ("verbosity", "shown"), [(0, []), (1, ["batch 64"]), (2, ["batch 64", "file 3"])], ids=["plain", "v", "vv"]
)
def test_each_level_shows_more_of_what_plugins_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verbosity: int, shown: list[str]
) -> None:
    with Console(verbosity=verbosity).log_to(tmp_path / "run.log"):
        logging.getLogger("ctkit.models").info("batch 64")
        logging.getLogger("ctkit.datasets").debug("file 3")
        logging.getLogger("somebody").info("chatter")
    assert capsys.readouterr().out.splitlines() == shown


def test_a_structured_log_has_an_object_a_line(tmp_path: Path) -> None:
    console = Console(log_json=True, quiet=True)
    with console.log_to(tmp_path / "run.log"):
        console.say("4 volumes")
        logging.getLogger("ctkit.session").info("done", extra={"stage": "scan", "item": "", "seconds": 1.5})
        logging.getLogger("ctkit.models").debug("a secret")
        logging.getLogger("ctkit.models").error("it failed", exc_info=ValueError("odd"))
    said, done, failed = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    assert (said["level"], said["logger"], said["message"]) == ("info", "ctkit.console", "4 volumes")
    assert (done["stage"], done["item"], done["seconds"]) == ("scan", "", 1.5)
    assert failed["level"] == "error"
    assert failed["traceback"].endswith("ValueError: odd")
    assert not (tmp_path / "run.log").exists()
