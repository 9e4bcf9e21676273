"""The report page in a real browser: drawn, turning, explained, dark, narrow, and off the network.

Needs Chromium and chromedriver (Debian: apt-get install chromium chromium-driver), else it skips.

Run: python -m pytest tests/report/test_report_browser.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from report_cases import cones

from i0t.report import ReportOptions
from i0t.report.definitions import GLOSSARY
from i0t.report.measurements import measure
from i0t.report.page import render

selenium = pytest.importorskip("selenium", reason="selenium is not installed: bash scripts/setup.sh")
from selenium import webdriver  # noqa: E402 (after the check that it is there)
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no Chromium with chromedriver here: apt-get install chromium chromium-driver"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CHARTS = ("cosines", "activations", "calibration", "recall", "search")
OF_PAIRS = ("recall", "search")  # without pairs, a sentence says that they are missing
SPHERES = ("sphere-before", "sphere-after")


@pytest.fixture(scope="module")
def chrome(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    nasty = "</script><b>&"
    cases = {
        "usual": cones(),
        "nasty": cones(8, texts=[nasty] * 8, image_ids=[nasty] * 8, metadata={"model": nasty}),
        "unpaired": cones(image_of_text=np.full(60, -1)),
    }
    for name, embeddings in cases.items():
        page = render(measure(embeddings, ReportOptions("pca")), embeddings.metadata)
        (folder / f"{name} & co.html").write_text(page, encoding="utf-8")
    return {name: (folder / f"{name} & co.html").as_uri() for name in cases}


@pytest.fixture
def page(chrome, pages):
    """Open a page at a size; browser errors and network requests fail the test."""

    def show(name: str = "usual", width: int = 1280, height: int = 900, dark: bool = False) -> webdriver.Chrome:
        mobile = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chrome.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": mobile})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chrome.get(pages[name])
        chrome.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        return chrome

    chrome.get_log("browser"), chrome.get_log("performance")
    yield show
    assert chrome.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # The browser's empty tab requests its own icons: only requests of our page count.
    asked = [one["request"]["url"] for one in sent if not one["documentURL"].startswith("chrome:")]
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)


def picture(chrome: webdriver.Chrome, canvas: str) -> str:
    return chrome.execute_script(f"return document.getElementById('{canvas}').toDataURL()")


def colours_drawn(chrome: webdriver.Chrome, canvas: str) -> int:
    return chrome.execute_script(
        f"const c = document.getElementById('{canvas}'), pen = c.getContext('2d');"
        "const pixels = pen.getImageData(0, 0, c.width, c.height).data;"
        "return new Set(new Uint32Array(pixels.buffer)).size"
    )


def definition(chrome: webdriver.Chrome) -> str | None:
    """Text of the open definition, if it is open and inside the window."""
    return chrome.execute_script(
        "const tip = document.getElementById('definition'); if (!tip.matches(':popover-open')) return null;"
        "const box = tip.getBoundingClientRect();"
        "return box.left >= 0 && box.right <= innerWidth && box.top >= 0 ? tip.textContent : 'outside the window'"
    )


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("name", ["usual", "nasty", "unpaired"])
def test_every_figure_is_drawn_and_nothing_overflows(page, name, width):
    chrome = page(name, width)
    for chart in CHARTS:
        box = chrome.find_element(By.CSS_SELECTOR, f"#{chart} svg").rect
        missing = name == "unpaired" and chart in OF_PAIRS
        assert box["width"] > 250 and (missing or box["height"] > 150), chart
        marks = chrome.find_elements(By.CSS_SELECTOR, f"#{chart} .mark")
        assert (len(marks) >= 3) != missing, chart
        assert chrome.find_element(By.ID, f"{chart}-note").text
    assert not chrome.execute_script("return /NaN|undefined|Infinity/.test(document.querySelector('main').innerHTML)")
    for canvas in SPHERES:
        assert chrome.find_element(By.ID, canvas).rect["width"] > 250
        assert colours_drawn(chrome, canvas) > 50
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    # Texts of the charts stay inside the page, too: an SVG may draw outside its box without scrolling.
    outside = chrome.execute_script(
        "return [...document.querySelectorAll('svg text, .tile *, td, th')].filter((e) => {"
        "const b = e.getBoundingClientRect(); return b.width && (b.left < 0 || b.right > innerWidth); }).length"
    )
    assert outside == 0


def test_names_are_text(page):
    chrome = page("nasty")
    assert chrome.find_element(By.TAG_NAME, "h1").text == "</script><b>&"
    assert not chrome.find_elements(By.CSS_SELECTOR, "main b")


def test_numbers_of_the_table_are_those_of_the_data(page):
    chrome = page()
    data = json.loads(chrome.execute_script("return document.getElementById('data').textContent"))
    rows = chrome.find_elements(By.CSS_SELECTOR, "#measures tr")
    assert [row.get_attribute("data-measure") for row in rows] == [*data["measures"], "i2t", "t2i"]
    for key, row in zip(data["measures"], rows):
        shown = [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        how = data["glossary"][key]
        for text, value in zip(shown, data["measures"][key].values()):
            plain = float(text.replace("\u2212", "-").replace(",", "").split("\u202f")[0])
            assert plain == pytest.approx(value * how["scale"], abs=0.51 * 10 ** -how["digits"]), key
    chrome = page("unpaired")
    assert chrome.find_element(By.CSS_SELECTOR, "[data-measure=alignment] td").text == "\u2013"
    assert chrome.find_element(By.CSS_SELECTOR, "[data-measure=i2t] td.after").text == "\u2013"


def test_dark_follows_the_system_and_the_button(page):
    def paper(chrome: webdriver.Chrome) -> str:
        return chrome.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = paper(page())
    chrome = page(dark=True)
    assert paper(chrome) != light
    chrome.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert paper(chrome) == light  # light letters would vanish on paper
    chrome.execute_script("dispatchEvent(new Event('afterprint'))")
    assert paper(chrome) != light
    before = picture(chrome, "sphere-before")
    button = chrome.find_element(By.ID, "theme")
    assert button.text == "Light" and button.get_attribute("aria-pressed") == "true"
    button.click()
    assert paper(chrome) == light and button.text == "Dark"
    assert picture(chrome, "sphere-before") != before


def test_dragging_turns_both_spheres_and_reset_turns_them_back(page):
    chrome = page()
    home = [picture(chrome, canvas) for canvas in SPHERES]
    canvas = chrome.find_element(By.ID, SPHERES[0])
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(chrome, duration=50).drag_and_drop_by_offset(canvas, 80, 30).perform()
    dragged = [picture(chrome, canvas) for canvas in SPHERES]
    assert all(now != then for now, then in zip(dragged, home))
    canvas.send_keys(Keys.ARROW_LEFT)
    assert picture(chrome, SPHERES[1]) != dragged[1]
    chrome.find_element(By.ID, "reset-sphere").click()
    assert [picture(chrome, canvas) for canvas in SPHERES] == home


def test_touch_turns_the_sphere(page):
    chrome = page(width=360, height=740)
    canvas = chrome.find_element(By.ID, SPHERES[1])
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    box = chrome.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]", canvas
    )
    home = picture(chrome, SPHERES[1])
    touch = partial(chrome.execute_cdp_cmd, "Input.dispatchTouchEvent")
    touch({"type": "touchStart", "touchPoints": [{"x": box[0], "y": box[1]}]})
    for step in range(1, 8):
        touch({"type": "touchMove", "touchPoints": [{"x": box[0] + 10 * step, "y": box[1]}]})
    touch({"type": "touchEnd", "touchPoints": []})
    assert picture(chrome, SPHERES[1]) != home


def test_a_point_names_its_pair(page):
    chrome = page()
    canvas = chrome.find_element(By.ID, SPHERES[0])
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    at = chrome.execute_script(
        "const v = Sphere.views[0], p = v.screen.at(-1), b = v.canvas.getBoundingClientRect();"
        "return [Math.round(p.x - b.width / 2), Math.round(p.y - b.height / 2), p.side, p.row]"
    )
    ActionChains(chrome, duration=20).move_to_element_with_offset(canvas, at[0], at[1]).click().perform()
    noted = chrome.find_element(By.ID, "picked").text
    number = noted.removeprefix("Image ").split(".jpg")[0]
    assert noted == f"Image {number}.jpg \u2014 caption {number}"


def test_definitions_open_by_mouse_keyboard_and_tap(page):
    chrome = page()
    name = chrome.find_element(By.CSS_SELECTOR, "[data-measure=relative_modality_gap] .def")
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", name)
    assert definition(chrome) is None
    ActionChains(chrome, duration=20).move_to_element(name).perform()
    assert definition(chrome).startswith("Relative modality gap") and "Schrodi" in definition(chrome)
    described = chrome.find_element(By.ID, name.get_attribute("aria-describedby"))
    assert "matched pair" in described.get_attribute("textContent")
    ActionChains(chrome, duration=20).move_by_offset(-60, -300).perform()
    assert definition(chrome) is None
    chrome.execute_script("document.getElementById('theme').focus()")
    ActionChains(chrome).send_keys(Keys.TAB).perform()
    assert definition(chrome).startswith("Held-out means")
    ActionChains(chrome).send_keys(Keys.ESCAPE).perform()
    assert definition(chrome) is None


def test_definitions_fit_a_phone(page):
    chrome = page(width=360, height=740)
    names = [name for name in chrome.find_elements(By.CSS_SELECTOR, ".def") if name.is_displayed()]
    assert {name.get_attribute("data-def") for name in names} == set(GLOSSARY)
    for name in names:
        chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", name)
        name.click()
        assert definition(chrome).startswith(
            chrome.execute_script("return DATA.glossary[arguments[0].dataset.def].label", name)
        )
        name.click()
        assert definition(chrome) is None
