"""The page in a real browser: no error on its console, every section drawn, nothing wider than the window."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--v=0",
)  # fmt: skip
LIGHT, DARK = "1", "0"
#: Runs after the page's own script; what it finds is read from the page's markup.
PROBE = """<script>addEventListener("load", () => {
  document.querySelector("table.sortable th button").click();
  document.querySelector(".plot").click();
  const opened = document.querySelector("dialog").open;
  document.querySelector("dialog").close();
  document.querySelector(".plot").dispatchEvent(new KeyboardEvent("keydown", { key: " " }));
  const byKey = document.querySelector("dialog").open;
  document.querySelector("dialog").close();
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const empty = [...document.querySelectorAll("section")].filter((one) => one.offsetHeight < 80).length;
  const sorted = document.querySelectorAll("th[aria-sort]").length;
  document.title = `overflow ${wide}, empty ${empty}, sorted ${sorted}, opened ${opened} and ${byKey}`;
});</script>"""


@pytest.fixture(scope="session")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium is installed: none of chromium, chromium-browser, google-chrome")


def start(browser: str, page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    profile = page.parent / f"profile-{abs(hash(flags))}"
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_works_without_errors_and_fits_its_window(browser: str, full_page: Path, width: int) -> None:
    probed = full_page.with_name(f"probed-{width}.html")
    probed.write_text(full_page.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    done = start(browser, probed, f"--window-size={width},2000", "--dump-dom")
    assert "CONSOLE" not in done.stderr
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title is not None
    assert title[1] == "overflow 0, empty 0, sorted 1, opened true and true"


@pytest.mark.parametrize(("scheme", "bright"), [(LIGHT, True), (DARK, False)], ids=["light", "dark"])
def test_the_page_follows_the_colour_scheme(browser: str, full_page: Path, scheme: str, bright: bool) -> None:
    shot = full_page.with_name(f"shot-{scheme}.png")
    flags = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1280,1600", f"--screenshot={shot}")
    done = start(browser, full_page, *flags)
    assert "CONSOLE" not in done.stderr
    with Image.open(shot) as image:
        histogram = image.convert("L").histogram()
    assert (sum(histogram[128:]) > 0.9 * sum(histogram)) == bright
    assert (sum(histogram[:128]) > 0.8 * sum(histogram)) != bright


def test_the_page_prints_whole_and_without_waste(browser: str, full_page: Path) -> None:
    paper = full_page.with_name("report.pdf")
    done = start(browser, full_page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    assert "CONSOLE" not in done.stderr
    pages = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))
    assert 10 <= pages <= 18  # folded tables are open on paper; blocks that move to the next page leave little white
