"""The page in a browser: Chromium opens the file; what a curator does with keys and mouse."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from anomap import cli
from anomap.curation.decisions import read_decisions
from anomap.curation.report import write_report
from anomap.curation.settings import ReportConfig
from anomap.errors import CODES
from benchmarks.curation_page import write_made_up
from tests.browser import chromium
from tests.curation.trees import CANARY
from tests.service.clinic import eventually

IMAGES = 1200
MOST_ROWS = 40  # in the page at a time; a view of 900 pixels shows about ten


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_made_up(folder, IMAGES)
    write_report(folder, ReportConfig(thumbnails=100))
    return folder


@pytest.fixture(scope="module")
def table(output):
    return pq.read_table(output / "images.parquet")


def visit(browser, output: Path, **view):
    """The loaded page. Whatever a test does: no script fails, nothing is asked for, and few rows exist."""
    context = browser.new_context(viewport={"width": 1500, "height": 900}, **view)
    tab = context.new_page()
    tab.said, tab.asked = [], []
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto((output / "report.html").as_uri())
    tab.wait_for_selector("body[data-ready]")
    return tab


@pytest.fixture
def tab(browser, output):
    made = visit(browser, output)
    yield made
    assert made.said == []
    address = (output / "report.html").as_uri()
    assert {url for url in made.asked if not url.startswith("blob:")} == {address}
    assert made.locator("#rows > *").count() <= MOST_ROWS
    made.context.close()


def until(tab, expression: str) -> None:
    """Wait for something to become true. Playwright's own way needs eval, which the page's policy forbids."""
    eventually(lambda: tab.evaluate(expression), f"{expression} did not become true")


def row(tab, place: int):
    return tab.locator(f"#row-{place}")


def cells(tab, place: int) -> list[str]:
    return row(tab, place).locator("[role=gridcell]").all_inner_texts()


def count(tab) -> int:
    return int(tab.locator("#count").inner_text().split(" of ")[0].replace(",", ""))


def order(tab) -> list[int]:
    """Row numbers of the table, as they are shown."""
    return tab.evaluate("[...shown]")


def test_the_oddest_images_come_first_with_their_pictures(tab, table):
    assert tab.title() == "Curation of made-up"
    p_values = table["p_value"].to_pylist()
    known = [p_values[n] for n in order(tab) if p_values[n] is not None]
    assert known == sorted(known)
    assert count(tab) == IMAGES
    sizes = (
        row(tab, 0)
        .locator("img")
        .evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])")
    )
    assert sizes == [192, 64]
    assert cells(tab, 0)[0] == "1"


def test_the_end_is_reached_by_scrolling_and_by_key_and_few_rows_exist(tab):
    tab.evaluate("list.scrollTop = 1e9")
    row(tab, IMAGES - 1).wait_for()
    assert tab.locator("#rows > *").count() <= MOST_ROWS
    last = f'document.getElementById("row-{IMAGES - 1}")?.getBoundingClientRect().bottom'
    until(tab, f"{last} <= list.getBoundingClientRect().bottom + 1")
    tab.locator("#list").focus()
    tab.keyboard.press("Home")
    row(tab, 0).wait_for()
    tab.keyboard.press("End")
    assert row(tab, IMAGES - 1).get_attribute("aria-selected") == "true"
    assert tab.locator("#list").get_attribute("aria-activedescendant") == f"row-{IMAGES - 1}"


def test_headers_sort_both_ways_and_empty_values_come_last(tab, table):
    cheap = table["cheap"].to_pylist()
    tab.select_option("#score", "cheap")
    tab.click("[data-by=score] button")
    values = [cheap[n] for n in order(tab)]
    there = [value for value in values if value is not None]
    assert there == pytest.approx(sorted(there, reverse=True), rel=1e-3)
    assert None not in values[: len(there)]
    assert tab.locator("[data-by=score]").get_attribute("aria-sort") == "descending"
    tab.click("[data-by=score] button")
    values = [cheap[n] for n in order(tab)]
    assert values[: len(there)] == pytest.approx(sorted(there), rel=1e-3)
    tab.click("[data-by=path] button")
    assert order(tab) == list(range(IMAGES))


def there(name, fits):
    """Rows that have a value in a column, and one that fits."""
    return lambda one: one[name] is not None and fits(one[name])


FILTERS = {
    "a p-value that is no float32": ("fill", "#p", "0.05", there("p_value", lambda p: p <= 0.05 + 1e-6)),
    "a score from": ("fill", "#least", "3", there("combined", lambda score: score >= 3)),
    "a score to": ("fill", "#most", "1", there("combined", lambda score: score <= 1)),
    "a part of a path": ("fill", "#search", "000/0001", there("path", lambda path: "000/0001" in path)),
    "an error": ("choose", "#choice-error", "E106", there("error", "E106".__eq__)),
    "a manufacturer": ("choose", "#choice-manufacturer", "ACME", there("manufacturer", "ACME".__eq__)),
    "no manufacturer": ("choose", "#choice-manufacturer", "none", there("manufacturer", "".__eq__)),
    "a tier": ("choose", "#choice-tier", "cheap", there("tier", "cheap".__eq__)),
    "disagreeing tags": ("check", "#disagree", "", there("looks", lambda looks: looks not in ("", "as tagged"))),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_show_what_a_loop_over_the_table_finds(name, tab, table):
    action, selector, value, fits = FILTERS[name]
    if action == "fill":
        tab.fill(selector, value)
    elif action == "choose":
        label = next(text for text in tab.locator(f"{selector} option").all_inner_texts() if text.startswith(value))
        tab.select_option(selector, label=label)
    else:
        tab.check(selector)
    expected = {n for n, one in enumerate(table.to_pylist()) if fits(one)}
    assert 0 < len(expected) < IMAGES
    until(tab, f"shown.length === {len(expected)}")
    assert set(order(tab)) == expected
    assert count(tab) == len(expected)
    tab.click("text=Clear filters")
    until(tab, f"shown.length === {IMAGES}")


def test_a_cluster_and_copies_can_be_chosen(tab):
    tab.select_option("#cluster", index=1)
    until(tab, f"shown.length < {IMAGES}")
    assert {cells(tab, place)[6] for place in range(min(8, count(tab)))} == {"1"}
    tab.click("text=Clear filters")
    tab.check("#copies")
    assert all(tab.evaluate("[...shown].map(row => columns.equal.values[row] > 0 || columns.near.values[row] > 0)"))
    assert 0 < count(tab) < IMAGES


def test_a_case_shows_scores_tags_copies_and_neighbours_and_leads_on(tab):
    row(tab, 3).click()
    case = tab.locator("#case")
    assert case.get_by_role("heading", name="Rank 4", exact=True).is_visible()
    assert tab.evaluate("paths[shown[3]]") in case.inner_text()
    for shown in ("combined", "wd patch", "Nearest in latent space", "Patient", "cxr-64"):
        assert shown in case.inner_text()
    assert case.locator(".other img").count() >= 5
    target = case.locator(".other").last.locator(".path").inner_text().split(" · ")[0]
    case.locator(".other").last.click()
    assert case.locator("p.path").first.inner_text() == target
    assert row(tab, tab.evaluate("current")).get_attribute("aria-selected") == "true"
    tab.keyboard.press("Escape")
    assert case.is_hidden()


def test_keys_alone_move_open_mark_and_take_back(tab):
    tab.locator("#list").focus()
    for key in ("ArrowDown", "ArrowDown", "d"):
        tab.keyboard.press(key)
    assert "drop" in row(tab, 2).get_attribute("class")
    assert "drop 1" in tab.locator("#decisions").inner_text()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "case"
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.activeElement.id") == "list"
    tab.keyboard.press("u")
    assert "drop 0" in tab.locator("#decisions").inner_text()
    for key, place in (("PageDown", None), ("PageUp", 2), ("ArrowUp", 1), ("Home", 0)):
        tab.keyboard.press(key)
        assert place is None or tab.evaluate("current") == place


def test_every_control_has_a_name(tab):
    row(tab, 0).click()
    nameless = tab.evaluate(
        "[...document.querySelectorAll('input, select, button, [role=grid], aside')]"
        ".filter(e => !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label')))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []
    assert tab.locator("#rows img:not([alt])").count() == 0


def test_marks_are_exported_and_the_file_is_applied(tab, output, table, tmp_path, capsys):
    tab.locator("#row-0 button.drop").click()
    tab.fill("#reason", 'scanner, "old"')
    label = next(text for text in tab.locator("#choice-error option").all_inner_texts() if text.startswith("E106"))
    tab.select_option("#choice-error", label=label)
    marked = order(tab)
    tab.click("#marks [data-all=drop]")
    with tab.expect_download() as waiting:
        tab.click("#download")
    assert waiting.value.suggested_filename == "decisions.csv"
    file = tmp_path / "decisions.csv"
    waiting.value.save_as(file)

    keys = list(zip(table["path"].to_pylist(), table["frame"].to_pylist(), strict=True))
    exported, proposed = read_decisions(file, keys), read_decisions(output / "decisions.csv", keys)
    assert list(exported) == keys
    changed = {key for key in keys if exported[key] != proposed[key]}
    first = tab.evaluate("columns.rank.values.indexOf(1)")
    assert changed == {keys[n] for n in [first, *marked]}
    assert {exported[keys[n]].reason for n in marked} == {'scanner, "old"'}
    assert exported[keys[first]].reason == "by hand"

    assert cli.main(["curate", "apply", str(output), "--decisions", str(file)]) == 0
    dropped = (output / "drop.txt").read_text().splitlines()
    assert set(dropped) == {f"./{path}" for path, _ in changed}
    assert f"{output}/drop.txt: {len(changed)} files" in capsys.readouterr().out


def test_changes_are_kept_in_the_browser_until_they_are_taken_back(browser, output):
    tab = visit(browser, output)
    tab.locator("#row-0 button.keep").click()
    tab.reload()
    tab.wait_for_selector("body[data-ready]")
    assert "1 changed" in tab.locator("#kept").inner_text()
    assert row(tab, 0).locator("button.keep").get_attribute("aria-pressed") == "true"
    tab.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_text_stays_readable(browser, output, scheme):
    tab = visit(browser, output, color_scheme=scheme)
    luminance = """(name, of) => {
      const rgb = getComputedStyle(document.querySelector(of))[name].match(/[\\d.]+/g).map((value) => value / 255);
      const [r, g, b] = rgb.map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }"""
    page = tab.evaluate(f"({luminance})('backgroundColor', 'body')")
    assert (page > 0.5) == (scheme == "light")
    for selector in ("body", "#summary", "label"):
        ink = tab.evaluate(f"({luminance})('color', {selector!r})")
        assert (max(ink, page) + 0.05) / (min(ink, page) + 0.05) >= 4.5, selector
    tab.context.close()


def test_a_narrow_window_has_no_sideways_scrolling(browser, output):
    tab = visit(browser, output)
    tab.set_viewport_size({"width": 480, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 480
    tab.context.close()


# The decision buttons of all rows that are wholly in view, and how many of them are cut off or covered.
COVERED = """() => {
  const view = list.getBoundingClientRect();
  const [right, bottom] = [view.left + list.clientWidth, view.top + list.clientHeight]; // without its scroll bars
  const decisions = [...document.querySelectorAll("#rows .row > :last-child")].filter((cell) => {
    const box = cell.getBoundingClientRect();
    return box.top >= view.top + byId("head").offsetHeight && box.bottom <= bottom;
  });
  const controls = decisions.flatMap((cell) => [...cell.querySelectorAll("button")]);
  const hidden = controls.filter((button) => {
    const box = button.getBoundingClientRect();
    const inside = box.left >= Math.max(view.left, 0) && box.right <= Math.min(right, innerWidth);
    return !inside || document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2) !== button;
  });
  return [controls.length, hidden.length];
}"""

# Whether a row's last columns lie side by side; asked in one go, because rows may be drawn anew between two questions.
BESIDE = """(() => {
  const [last, decision] = [...byId("row-2").children].slice(-2).map((cell) => cell.getBoundingClientRect());
  return last.right <= decision.left;
})()"""


@pytest.mark.parametrize("width", [1100, 1280, 1500])
def test_decisions_stay_in_reach_beside_an_open_case(browser, output, width):
    tab = visit(browser, output)
    tab.set_viewport_size({"width": width, "height": 900})
    row(tab, 2).click()
    assert tab.locator("#case").is_visible()
    for sideways in (0, 1e9):
        tab.evaluate(f"list.scrollLeft = {sideways}")
        controls, hidden = tab.evaluate(COVERED)
        assert controls >= 3 * 8
        assert hidden == 0
    # Scrolled to the end, no other column is left below that of the decisions.
    until(tab, BESIDE)
    row(tab, 3).locator("button.drop").click()
    assert "drop" in row(tab, 3).get_attribute("class")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.said == []
    tab.context.close()


def test_rows_stay_while_the_list_moves_so_that_a_click_in_motion_counts(tab):
    tab.evaluate("list.scrollTop = 20 * ROW")
    row(tab, 20).wait_for()
    button = row(tab, 22).locator("button.drop").element_handle()
    moves = "list.scrollTop += 15; list.scrollLeft = 20; list.style.width = '900px'"
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
    tab.evaluate(f"{moves}; {frames}")
    assert button.evaluate("button => button.isConnected")
    button.click()
    assert "drop" in row(tab, 22).get_attribute("class")


def test_a_hundred_thousand_images_scroll_sort_and_filter(browser, tmp_path):
    write_made_up(tmp_path, 100_000)
    write_report(tmp_path, ReportConfig(thumbnails=20))
    tab = visit(browser, tmp_path)
    assert tab.locator("#rows > *").count() <= MOST_ROWS
    for share in (0.25, 0.5, 0.999, 1.0):
        tab.evaluate(f"list.scrollTop = {share} * (height() - view())")
        until(tab, f"Math.abs(Number(rows.firstChild.dataset.at) / shown.length - {share}) < 0.01")
        assert tab.locator("#rows > *").count() <= MOST_ROWS
    row(tab, 99_999).wait_for()
    tab.click("[data-by=path] button")
    assert tab.evaluate("shown[5] === 5")
    tab.fill("#p", "0.01")
    images = pq.read_table(tmp_path / "images.parquet", columns=["p_value"])["p_value"].to_pylist()
    few = sum(value is not None and value <= 0.01 for value in images)
    until(tab, f"shown.length === {few}")
    assert count(tab) == few
    assert tab.locator("#rows > *").count() <= MOST_ROWS
    assert tab.said == []
    tab.context.close()


def test_a_real_curation_is_shown_and_holds_no_name(browser, whole, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(whole, output)
    assert cli.main(["curate", "merge", str(output)]) == 0
    assert f"{output}/report.html: 24 images" in capsys.readouterr().out
    tab = visit(browser, output)
    assert count(tab) == 24
    row(tab, 0).click()
    picture = tab.locator("#case > img")
    assert picture.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [96, 32]
    content = tab.content() + tab.evaluate("JSON.stringify([paths, Object.values(columns).map(one => one.words)])")
    assert CANARY.split("^")[0] not in content
    tab.select_option("#choice-error", index=2)
    tab.locator("#row-0").click()
    code = tab.evaluate("word('error', shown[0])")
    assert f"{code} {CODES[code].title}" in tab.locator("#case").inner_text()
    assert tab.said == []
    tab.context.close()


def test_longer_lists_than_a_browser_can_scroll_are_scrolled_in_proportion(browser, output):
    tab = visit(browser, output)
    tab.evaluate("shown = new Uint32Array(1_000_000).map((_, n) => n % 1200); list.scrollTop = 0; showRows()")
    tab.evaluate("moveTo(654_321)")
    until(
        tab,
        """(() => {
            const row = document.getElementById("row-654321")?.getBoundingClientRect();
            const view = list.getBoundingClientRect();
            return row && view.top <= row.top && row.bottom <= view.bottom + 1;
        })()""",
    )
    tab.evaluate("list.scrollTop = 1e9")
    row(tab, 999_999).wait_for()
    assert tab.locator("#rows > *").count() <= MOST_ROWS
    tab.context.close()
