"""The report in a real browser: ``make test-browser`` installs Chromium and its driver, and runs these.

What the page says is compared with the truth that the file was made from, never with the page's own data.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastism_cli.report.write_report import write_report
from fastism_cli.scores.region import strongest_sites
from tests.helpers.report_files import HOSTILE, LABELS, LENGTH, Truth, write_look

pytestmark = pytest.mark.browser

N = 200
ROWS_A_PAGE = 20
MARGIN, RIGHT = 58, 10  # of the plots, in pixels
HEAT_TOP, HEAT_ROW = 204, 22
CHANGE = re.compile(r"chr1:([\d,]+) ([ACGT])>([ACGT])  delta (\S+)  importance of \2 (\S+)")


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1700"):
        options.add_argument(argument)
    # both named, so that selenium looks for nothing by itself
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("report")
    truth = write_look(folder / "many.ism.h5", N)
    summary = write_report(folder / "many.ism.h5", str(folder / "many.html"), top=N)
    assert summary.pictures == N and summary.bytes < 5_000_000
    return folder / "many.html", truth


@pytest.fixture
def opened(driver, made) -> tuple[Any, Truth]:
    path, truth = made
    open_page(driver, path)
    return driver, truth


def open_page(driver: Any, path: Path, address: str = "") -> None:
    driver.get_log("performance")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.get("about:blank")  # an address that differs after # alone would not load the page anew
    driver.get(path.as_uri() + address)
    next_frame(driver)


def next_frame(driver: Any) -> None:
    """Wait until the page has been painted: before that, a canvas may be read as blank."""
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


@pytest.fixture(autouse=True)
def nothing_goes_wrong(driver):
    """No message in the console and no request but that of the page itself, whatever a test did."""
    yield
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    own = [url for url in urls - {"data:,", "about:blank"} if not url.startswith("blob:")]  # what is saved is a blob
    assert all(url.startswith("file:") and url.endswith(".html") for url in own)
    assert driver.execute_script("return window.hostile") is None


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def texts(driver: Any, selector: str) -> list[str]:
    script = "return Array.from(document.querySelectorAll(arguments[0]), (x) => x.textContent)"
    return driver.execute_script(script, selector)


def press(driver: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    for key in keys:
        ActionChains(driver).send_keys(key).perform()


def column(driver: Any, number: int) -> list[str]:
    return texts(driver, f"#table tbody td:nth-child({number})")


def row_of(title: str) -> int:
    """Row of the file by the title of its picture."""
    name = title.rsplit("  ", 1)[0]
    return HOSTILE.index(name) if name in HOSTILE else int(name.removeprefix("peak_"))


def shown_row(driver: Any) -> int:
    return row_of(texts(driver, "#view-title")[0])


def in_view(driver: Any) -> tuple[int, int]:
    """How many bases are drawn, of how many."""
    return tuple(int(x) for x in re.search(r"(\d+) of (\d+) bases", texts(driver, "#view-facts")[0]).groups())


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def assert_right(text: str, truth: Truth, row: int, track: int, *, flipped: bool = False) -> int:
    """Compare a text about a substitution with the truth; returns the position."""
    found = CHANGE.match(text)
    assert found, text
    position, ref, alt, delta, importance = found.groups()
    at = int(position.replace(",", "")) - 1 - truth.start[row]
    codes = "TGCA" if flipped else "ACGT"
    assert codes[truth.seq[row, at]] == ref
    expected = truth.delta[row, track, at, codes.index(alt)]
    assert float(delta) == pytest.approx(rounded(expected), rel=1.1e-3), "four digits, the last off by one at most"
    assert float(importance) == pytest.approx(truth.importance(row, track)[at], rel=1e-3, abs=1e-7)
    return int(position.replace(",", "")) - 1


# --- the page as it opens --------------------------------------------------------------------------------------------


def test_it_opens_with_everything_there(opened):
    driver, truth = opened
    assert driver.title == "many.ism.h5" and not find(driver, "#trouble").is_displayed()
    assert f"{N} of {N + 1} regions are scored" in " ".join(texts(driver, "#checks li"))
    assert len(texts(driver, "#spread rect")) > 20
    assert texts(driver, "#found") == [f"{N + 1} of {N + 1} regions"]
    strength = [abs(strongest_sites(truth.importance(row, 0))[0]) for row in range(N)]
    assert shown_row(driver) == int(np.argmax(strength))
    assert colours(driver, "detail") > 20 and colours(driver, "overview") > 2


# a copy of a canvas, for Chromium warns of reading one that is drawn again and again
COPY = """const copy = (id) => {
    const from = document.getElementById(id), to = document.createElement("canvas");
    [to.width, to.height] = [from.width, from.height];
    const context = to.getContext("2d", { willReadFrequently: true });
    context.drawImage(from, 0, 0);
    return context.getImageData(0, 0, to.width, to.height);
  };"""


def colours(driver: Any, canvas: str) -> int:
    """How many colours a canvas holds."""
    return driver.execute_script(f"{COPY} return new Set(new Uint32Array(copy(arguments[0]).data.buffer)).size", canvas)


def test_hostile_names_are_text(opened):
    driver, _ = opened
    names = set()
    for _ in range(math.ceil((N + 1) / ROWS_A_PAGE)):
        names |= set(column(driver, 1))
        find(driver, "#page-on").click() if find(driver, "#page-on").is_enabled() else None
    assert set(HOSTILE) <= names and len(names) == N + 1


def test_a_file_without_regions_opens(driver, tmp_path):
    write_look(tmp_path / "none.h5", 3, unscored=0)
    write_report(tmp_path / "none.h5", str(tmp_path / "none.html"), top=0, targets=["count"])
    open_page(driver, tmp_path / "none.html")
    assert texts(driver, "#found") == ["3 of 3 regions"]


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_sorts(opened):
    driver, truth = opened
    heading = "[data-sort=prediction]"
    expected = sorted(truth.reference[:, 0].tolist())
    for order, values in (("descending", expected[::-1]), ("ascending", expected)):
        find(driver, heading).click()
        assert texts(driver, "th[aria-sort=" + order + "]")[0].startswith("Prediction")
        found = [float(text) for text in column(driver, 5)]
        np.testing.assert_allclose(found, values[:ROWS_A_PAGE], rtol=1e-3)
    find(driver, "#page-last").click()
    assert column(driver, 5)[-1] == "-", "what has no number is last in either order"
    find(driver, "[data-sort=name]").click()
    assert column(driver, 1)[3:6] == ["lost_200", "peak_3", "peak_4"], "numbers in names sort as numbers"


def test_the_table_sorts_by_keyboard(opened):
    driver, _ = opened
    driver.execute_script("document.querySelector('[data-sort=place]').focus()")
    press(driver, "\ue007")  # enter
    places = [int(text.split(":")[1].split("-")[0].replace(",", "")) for text in column(driver, 2)]
    assert places == sorted(places) and places[0] == 1
    assert driver.execute_script("return document.activeElement.dataset.sort") == "place"


SEARCHES = {
    "peak_17": lambda i: str(i).startswith("17"),
    "PEAK_5": lambda i: str(i).startswith("5"),
    "chr1:20,100-21,060": lambda i: i in (20, 21),
    "chr1:20100": lambda i: i == 20,
    "ok peak_199": lambda i: i == 199,
    "too many": lambda i: i == N,
}


@pytest.mark.parametrize("query", SEARCHES)
def test_search(opened, query):
    driver, _ = opened
    find(driver, "#search").send_keys(query)
    names = [("lost_" if i == N else "peak_") + str(i) for i in range(len(HOSTILE), N + 1) if SEARCHES[query](i)]
    assert texts(driver, "#found") == [f"{len(names)} of {N + 1} regions"]
    assert set(column(driver, 1)) == set(names)


def test_search_finds_nothing_and_everything_again(opened):
    driver, _ = opened
    find(driver, "#search").send_keys("nowhere")
    assert column(driver, 1) == [] and texts(driver, "#page") == ["none"]
    press(driver, *(len("nowhere") * "\ue003"))  # backspace
    assert texts(driver, "#found") == [f"{N + 1} of {N + 1} regions"]


def test_another_target_has_other_scores(opened):
    driver, truth = opened
    for track, label in enumerate(LABELS):
        find(driver, f"#track option[value='{track}']").click()
        row = shown_row(driver)
        assert texts(driver, "#view-facts")[0].startswith(
            f"{label}: prediction {rounded(truth.reference[row, track]):g}"
        )
        find(driver, "#search").clear()
        find(driver, "#search").send_keys("peak_42")
        assert float(column(driver, 5)[0]) == pytest.approx(truth.reference[42, track], rel=1e-3)


# --- the picture -----------------------------------------------------------------------------------------------------


def hover(driver: Any, share: float, y: float) -> str:
    """Move the pointer over the picture: ``share`` of the plot's width, ``y`` pixels from the top."""
    from selenium.webdriver import ActionChains

    canvas = find(driver, "#detail")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    wide, tall = canvas.size["width"], canvas.size["height"]
    x = MARGIN + share * (wide - MARGIN - RIGHT)
    ActionChains(driver).move_to_element_with_offset(canvas, round(x - wide / 2), round(y - tall / 2)).perform()
    return texts(driver, "#tip")[0]


@pytest.mark.parametrize("row", [1, 4, 55, 198])
def test_a_hover_shows_the_right_number(opened, row):
    driver, truth = opened
    open_region(driver, row)
    find(driver, "#zoom-all").click()
    width = LENGTH
    for share in (0.01, 0.2, 0.483, 0.71, 0.995):
        shown = [hover(driver, share, HEAT_TOP + (letter + 0.5) * HEAT_ROW) for letter in range(4)]
        changes = [text for text in shown if CHANGE.match(text)]
        assert len(changes) == 3 and sum("(reference)  delta 0" in text for text in shown) == 1
        for text in changes:
            position = assert_right(text, truth, row, 0)
            assert position - truth.start[row] == pytest.approx(share * width, abs=1)
        assert texts(driver, "#tip") == texts(driver, "#readout")


def open_region(driver: Any, row: int) -> None:
    find(driver, "#search").clear()
    find(driver, "#search").send_keys("peak_" + str(row) if row >= len(HOSTILE) else HOSTILE[row].split()[0])
    buttons = driver.find_elements("css selector", "#table tbody button")
    wanted = [b for b in buttons if b.text in (f"peak_{row}", *HOSTILE[row : row + 1])]
    wanted[0].click()
    assert shown_row(driver) == row


def test_an_n_is_not_computed(opened):
    driver, truth = opened
    open_region(driver, 1)  # three N from column 7 on
    find(driver, "#zoom-all").click()
    text = hover(driver, 8.5 / LENGTH, HEAT_TOP + 5)
    assert text == f"chr1:{truth.start[1] + 9:,} N  not computed"


def test_the_region_at_the_end_of_a_contig_begins_with_its_first_base(opened):
    driver, truth = opened
    open_region(driver, 0)
    find(driver, "#zoom-all").click()
    assert in_view(driver) == (LENGTH - 20, LENGTH - 20)
    shown = [hover(driver, 0.001, HEAT_TOP + (letter + 0.5) * HEAT_ROW) for letter in range(4)]
    positions = [assert_right(text, truth, 0, 0) for text in shown if CHANGE.match(text)]
    assert positions == [0, 0, 0]


def test_the_minus_strand_runs_the_other_way(opened):
    driver, truth = opened
    open_region(driver, 6)
    find(driver, "#zoom-all").click()
    find(driver, "#flip").click()
    assert find(driver, "#flip").get_attribute("aria-pressed") == "true"
    positions = []
    for share in (0.1, 0.5, 0.9):
        shown = [hover(driver, share, HEAT_TOP + (letter + 0.5) * HEAT_ROW) for letter in range(4)]
        positions += [assert_right(text, truth, 6, 0, flipped=True) for text in shown if CHANGE.match(text)][:1]
    expected = [truth.start[6] + (1 - share) * LENGTH for share in (0.1, 0.5, 0.9)]
    np.testing.assert_allclose(positions, expected, atol=1)


def test_the_picture_is_used_by_keyboard(opened):
    driver, truth = opened
    find(driver, "#search").send_keys("peak_88")
    driver.execute_script("document.querySelector('#table tbody button').focus()")
    press(driver, "\ue007")
    assert shown_row(driver) == 88 and driver.execute_script("return document.activeElement.id") == "detail"
    press(driver, "\ue011")  # home
    seen = set()
    for _ in range(4):
        text = texts(driver, "#readout")[0]
        if CHANGE.match(text):
            seen.add(assert_right(text, truth, 88, 0))
        press(driver, "\ue015")  # down
    assert seen == {int(truth.start[88])}
    press(driver, "\ue010")  # end
    assert f"chr1:{truth.start[88] + LENGTH:,} " in texts(driver, "#readout")[0]
    press(driver, "0")
    assert in_view(driver) == (LENGTH, LENGTH)
    press(driver, "+", "+")
    assert in_view(driver) == (LENGTH // 4, LENGTH)
    press(driver, "-")
    assert in_view(driver) == (LENGTH // 2, LENGTH)


def test_every_control_is_reached_by_tab(opened):
    driver, _ = opened
    driver.execute_script("document.activeElement.blur()")
    wanted = {"track", "theme", "search", "page-on", "region-on", "zoom-in", "zoom-all", "flip", "detail"}
    reached = set()
    for _ in range(80):
        press(driver, "\ue004")
        reached.add(driver.execute_script("return document.activeElement.id"))
    assert wanted <= reached


def test_the_strip_chooses_a_stretch(opened):
    from selenium.webdriver import ActionChains

    driver, _ = opened
    strip = find(driver, "#overview")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", strip)
    plot = strip.size["width"] - MARGIN - RIGHT
    chain = ActionChains(driver).move_to_element_with_offset(strip, round(MARGIN - strip.size["width"] / 2), 0)
    chain.click_and_hold().move_by_offset(round(plot / 3), 0).release().perform()
    shown, whole = in_view(driver)
    assert shown == pytest.approx(whole / 3, abs=2)


# --- light and dark --------------------------------------------------------------------------------------------------


def lightness(driver: Any) -> tuple[float, float]:
    """Of the page and of the ground of the strip, 0 to 255."""
    script = """const p = copy("overview"), at = 4 * (p.width + Math.round(61 * window.devicePixelRatio));
      const b = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
      return [(b[0] + b[1] + b[2]) / 3, (p.data[at] + p.data[at + 1] + p.data[at + 2]) / 3]"""
    return tuple(driver.execute_script(COPY + script))


def test_light_and_dark(opened):
    driver, _ = opened
    light = lightness(driver)
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    next_frame(driver)
    dark = lightness(driver)
    assert light[0] > 240 and dark[0] < 40 and light[1] > 150 and dark[1] < 110
    find(driver, "#theme").click()
    assert texts(driver, "#theme") == ["Theme: light"] and lightness(driver)[0] > 240
    find(driver, "#theme").click()
    assert texts(driver, "#theme") == ["Theme: dark"] and lightness(driver)[0] < 40


# --- the size of the window ------------------------------------------------------------------------------------------

SIZES = {390: 844, 1280: 720, 1440: 900, 1600: 900, 1920: 1080}


def resized(driver: Any, wide: int, *, dark: bool = False) -> None:
    metrics = {"width": wide, "height": SIZES[wide], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    next_frame(driver)
    next_frame(driver)


@pytest.mark.parametrize("wide", SIZES)
def test_the_strongest_region_is_in_the_first_screen(opened, wide):
    driver, _ = opened
    resized(driver, wide)
    driver.refresh()
    next_frame(driver)
    top, shown = driver.execute_script(
        "return [document.getElementById('detail').getBoundingClientRect().top + scrollY, innerHeight]"
    )
    assert top + HEAT_TOP + 4 * HEAT_ROW <= shown, "logo and heat map"
    letters = LENGTH if in_view(driver)[0] == LENGTH else in_view(driver)[0]
    plot = find(driver, "#detail").size["width"] - MARGIN - RIGHT
    assert plot / letters >= 5, "letters, not bars"
    assert find(driver, "#run-title").location["y"] > find(driver, "#regions-title").location["y"]
    assert texts(driver, "#summary dt")[-1].endswith("SHA-256") or "SHA" not in " ".join(texts(driver, "#summary dt"))


@pytest.mark.parametrize("wide", SIZES)
def test_nothing_is_wider_than_its_box(opened, wide):
    driver, _ = opened
    resized(driver, wide)
    page, shown = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert page <= shown, "the page does not scroll sideways"
    table, box = driver.execute_script(
        "const b = document.querySelector('.scroll'); return [b.scrollWidth, b.clientWidth]"
    )
    assert table <= box or wide < 1280


@pytest.mark.parametrize("wide", [390, 1280])
def test_the_words_of_the_chart_are_inside_of_it_and_can_be_read(opened, wide):
    driver, _ = opened
    resized(driver, wide)
    chart, *words = driver.execute_script(
        "const boxes = ['#spread', '#spread text'].flatMap((x) => [...document.querySelectorAll(x)]);"
        "return boxes.filter((x) => x.tagName !== 'text' || x.textContent)"
        ".map((x) => x.getBoundingClientRect().toJSON())"
    )
    assert len(words) >= 4
    for word in words:
        assert chart["left"] - 1 <= word["left"] and word["right"] <= chart["right"] + 1
        assert chart["top"] - 1 <= word["top"] and word["bottom"] <= chart["bottom"] + 1
        assert word["height"] >= 9


@pytest.mark.parametrize("wide", [390, 1280, 1920])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_painted_at_every_size(opened, wide, dark):
    driver, _ = opened
    resized(driver, wide, dark=dark)
    compare(driver, 1)
    assert colours(driver, "detail") > 20 and (lightness(driver)[0] < 40) == dark
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        name = f"report-{wide}-{'dark' if dark else 'light'}"
        driver.save_screenshot(f"{folder}/{name}.png")
        driver.execute_script("document.getElementById('regions').scrollIntoView()")
        driver.save_screenshot(f"{folder}/{name}-table.png")


# --- several targets -------------------------------------------------------------------------------------------------


def compare(driver: Any, *tracks: int) -> None:
    driver.execute_script("document.getElementById('compare').open = true")
    for track in tracks:
        find(driver, f"[data-compare='{track}']").click()
    next_frame(driver)


def test_several_targets_stand_side_by_side(opened):
    from selenium.webdriver import ActionChains

    driver, truth = opened
    open_region(driver, 55)
    compare(driver, 1, 2)
    captions = texts(driver, "#panels figcaption")
    assert captions == [f"{label}: prediction {rounded(truth.reference[55, k]):g}" for k, label in enumerate(LABELS)]
    tops = driver.execute_script("return Array.from(document.querySelectorAll('.panel'), (x) => x.offsetTop)")
    assert tops[0] == tops[1] < tops[2], "two in a row of this window"
    find(driver, "#zoom-all").click()
    other = find(driver, "#panels canvas[data-track='2']")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", other)
    wide, tall = other.size["width"], other.size["height"]
    x = MARGIN + 0.4 * (wide - MARGIN - RIGHT)
    found = []
    for letter in range(4):
        y = HEAT_TOP + (letter + 0.5) * HEAT_ROW
        ActionChains(driver).move_to_element_with_offset(other, round(x - wide / 2), round(y - tall / 2)).perform()
        found.append(texts(driver, "#tip")[0])
    assert len([assert_right(text, truth, 55, 2) for text in found if CHANGE.match(text)]) == 3
    compare(driver, 1, 2)
    assert len(texts(driver, "#panels figcaption")) == 1 and not find(driver, "#panels figcaption").is_displayed()


def test_one_scale_or_one_for_each(opened):
    driver, truth = opened
    open_region(driver, 55)
    compare(driver, 1)
    largest = [np.nanmax(np.abs(truth.delta[55, track])) for track in (0, 1)]
    assert float(texts(driver, "#legend span")[1]) == pytest.approx(max(largest), rel=1e-3)
    find(driver, "#one-scale").click()
    assert texts(driver, "#legend span")[1] == "highest of each"
    find(driver, "#one-scale").click()


# --- saving ----------------------------------------------------------------------------------------------------------


def saved(driver: Any, folder: Path, button: str) -> Path:
    """The file that a button saves; Chromium makes a PNG when it is idle, many seconds later on a busy machine."""
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    before = set(folder.iterdir())
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", find(driver, button))
    find(driver, button).click()
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        new = [path for path in set(folder.iterdir()) - before if path.suffix != ".crdownload"]
        if new and new[0].stat().st_size:
            return new[0]
        time.sleep(0.05)
    raise AssertionError(f"{button} saved nothing")


SVG = "{http://www.w3.org/2000/svg}"


def test_a_saved_svg_is_the_picture(opened, tmp_path):
    driver, truth = opened
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    open_region(driver, 42)
    compare(driver, 2)
    first, shown = visible(driver, truth, 42)
    path = saved(driver, tmp_path, "#save-svg")
    assert path.name == "many.peak_42.svg"
    root = ElementTree.parse(path).getroot()
    assert root.find(f"{SVG}rect").get("fill") == "#ffffff" and lightness(driver)[0] < 40, "paper, also of a dark page"
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert any(word.startswith("peak_42  chr1:42,051-42,350") for word in words)
    assert f"{LABELS[0]}: prediction {rounded(truth.reference[42, 0]):g}" in words
    letters = [(x.get("data-letter"), *map(float, re.findall(r"[-\d.]+(?:e-?\d+)?", x.get("transform")))) for x in
               root.iter(f"{SVG}path")]  # fmt: skip
    groups = root.findall(f"{SVG}g")
    assert len(groups) == 2 and len(root.findall(f".//{SVG}clipPath")) == 2
    for group, track in zip(groups, (0, 2), strict=True):
        found = [(x.get("data-letter"), *map(float, re.findall(r"[-\d.]+", x.get("transform")))) for x in
                 group.iter(f"{SVG}path")]  # fmt: skip
        importance = truth.importance(42, track)[first : first + shown]
        heights = np.array([tall for *_, tall in found])
        expected = np.abs(importance)
        scale = heights.max() / expected.max()
        drawn = expected * scale * 100 >= 0.5
        sequence = "".join("ACGT"[code] for code in truth.seq[42, first : first + shown][drawn])
        assert "".join(letter for letter, *_ in found) == sequence
        np.testing.assert_allclose(heights, expected[drawn] * scale, atol=2e-3 * heights.max())
    assert len(letters) <= 2 * shown
    compare(driver, 2)


def visible(driver: Any, truth: Truth, row: int) -> tuple[int, int]:
    """First base in view, from the region's, and how many; whole bases, as a region opens with them."""
    locus = re.search(r"locus=chr1%3A(\d+)-(\d+)", find(driver, "#igv").get_attribute("href"))
    return int(locus[1]) - 1 - int(truth.start[row]), int(locus[2]) - int(locus[1]) + 1


def test_a_saved_png_is_a_picture(opened, tmp_path):
    driver, _ = opened
    open_region(driver, 42)
    path = saved(driver, tmp_path, "#save-png")
    head = path.read_bytes()[:24]
    assert path.name == "many.peak_42.png" and head.startswith(b"\x89PNG")
    assert int.from_bytes(head[16:20], "big") == 2 * find(driver, "#detail").size["width"]


def test_a_saved_csv_is_the_table(opened, tmp_path):
    driver, truth = opened
    find(driver, "#track option[value='2']").click()
    path = saved(driver, tmp_path, "#save-csv")
    assert path.name == "many.count.csv"
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == N + 1 and {line["Name"] for line in lines} == {*truth.names, f"lost_{N}"}
    by_name = {line["Name"]: line for line in lines}
    for row in range(N):
        line = by_name[truth.names[row]]
        assert float(line["Prediction"]) == pytest.approx(truth.reference[row, 2], rel=1e-5)
        largest = np.nanmax(np.abs(truth.delta[row, 2]))
        assert abs(float(line["Largest delta"])) == pytest.approx(largest, rel=1e-5)
        assert line["Location"] == f"chr1:{max(truth.start[row], 0) + 1:,}-{truth.start[row] + LENGTH:,}"
    sites = [abs(float(line["Strongest site"])) for line in lines[:N]]
    assert sites == sorted(sites, reverse=True) and by_name[f"lost_{N}"]["Prediction"] == ""
    path.unlink()  # the next one has the same name
    find(driver, "#search").send_keys("peak_17")
    assert len(saved(driver, tmp_path, "#save-csv").read_text().splitlines()) == 12
    find(driver, "#track option[value='0']").click()


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "row", "position"),
    [
        ("#peak_17:17200", 17, 17200),
        ("#peak_17:17,051", 17, 17051),
        ("#chr1:20,100", 20, 20100),
        ("#peak_198", 198, None),
        ("#%22%3E%3Cimg%20src%3Dx%20onerror%3Dwindow.hostile%3D1%3E:1,100", 1, 1100),
    ],
)
def test_a_link_opens_at_its_base(driver, made, address, row, position):
    path, truth = made
    open_page(driver, path, address)
    assert shown_row(driver) == row
    if position is not None:
        base = "ACGT"[truth.seq[row, position - 1 - truth.start[row]]]
        assert texts(driver, "#readout")[0].startswith(f"chr1:{position:,} {base}  importance of {base} ")
        first, shown = visible(driver, truth, row)
        assert first <= position - 1 - truth.start[row] < first + shown
        assert find(driver, "#here").get_attribute("href").endswith(f":{position}")
    driver.execute_script("location.hash = '#peak_88:88,100'")
    next_frame(driver)
    assert shown_row(driver) == 88 and texts(driver, "#readout")[0].startswith("chr1:88,100 ")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("#nowhere:5", "This page has no picture of nowhere:5."),
        ("#peak_17:5", "peak_17 does not hold base 5."),
        ("#%", ""),
    ],
)
def test_a_link_to_nothing_is_told(driver, made, address, words):
    open_page(driver, made[0], address)
    assert texts(driver, "#readout") == [words] and find(driver, "#detail").is_displayed()


def test_a_region_that_is_opened_has_an_address(opened):
    driver, truth = opened
    open_region(driver, 55)
    assert driver.execute_script("return location.hash") == "#peak_55"
    hover(driver, 0.5, HEAT_TOP + 5)
    find(driver, "#detail").click()
    found = re.fullmatch(r"#peak_55:(\d+)", driver.execute_script("return location.hash"))
    assert truth.start[55] < int(found[1]) <= truth.start[55] + LENGTH


def test_genome_browsers_open_at_the_bases_in_view(opened):
    driver, truth = opened
    open_region(driver, 55)
    find(driver, "#zoom-all").click()
    first, last = truth.start[55] + 1, truth.start[55] + LENGTH
    assert find(driver, "#ucsc").get_attribute("href") is None, "no genome is named"
    assert find(driver, "#igv").get_attribute("href") == f"http://localhost:60151/goto?locus=chr1%3A{first}-{last}"
    find(driver, "#genome").send_keys("hg38")
    place = f"chr1%3A{first}-{last}"
    assert find(driver, "#ucsc").get_attribute("href").endswith(f"hgTracks?db=hg38&position={place}")
    assert find(driver, "#igvweb").get_attribute("href") == f"https://igv.org/app/?genome=hg38&locus={place}"
