"""The page in a real browser: headless Chromium, without network.

Screenshots are kept in the folder that LAMBDAMR_ARTIFACTS names, for somebody to look at.
"""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from recorded import job, large, task

from lambdamr.observers import page, report
from lambdamr.observers.record import FailureRow, Record, ThrottleRow

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
CHARTS = ("timeline", "concurrency", "tree", "durations", "memory")

# How much of a chart is not of the colour of its ground: something was drawn there.
INK = """
(id) => {
    const canvases = [];
    const search = (node) => {
        for (const child of node.children) {
            if (child.tagName === "CANVAS") canvases.push(child);
            if (child.shadowRoot) search(child.shadowRoot);
            search(child);
        }
    };
    search(document.getElementById(id));
    let most = 0;
    for (const canvas of canvases) {
        const { width, height } = canvas;
        if (!width || !height) continue;
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        let inked = 0;
        for (let i = 0; i < data.length; i += 4) {
            const [red, green, blue, alpha] = data.subarray(i, i + 4);
            const colourful = Math.max(red, green, blue) - Math.min(red, green, blue) > 60;
            if (alpha > 200 && colourful) inked += 1;
        }
        most = Math.max(most, inked / (width * height));
    }
    return most;
}
"""


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "the tests need Chromium; README.md says how to install it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


class Opened:
    """A page in the browser, and what it complained about."""

    def __init__(self, browser: Browser, path: Path, **options) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.tab = browser.new_context(offline=True, **options).new_page()
        self.tab.on("console", self._heard)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        metrics = self.tab.context.new_cdp_session(self.tab)
        metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.tab.goto(path.as_uri())
        self.tab.wait_for_function("document.documentElement.dataset.interactive", timeout=60_000)
        told = metrics.send("Performance.getMetrics")["metrics"]
        self.cpu = next(one["value"] for one in told if one["name"] == "TaskDuration")
        self.tab.wait_for_function("document.documentElement.dataset.drawn", timeout=60_000)

    def _heard(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    @property
    def interactive(self) -> float:
        """Seconds from the navigation until the timeline was drawn and the page answered."""
        return int(self.tab.evaluate("document.documentElement.dataset.interactive")) / 1000

    def ink(self, chart: str) -> float:
        return self.tab.evaluate(INK, chart)

    def keep(self, name: str) -> None:
        folder = os.environ.get("LAMBDAMR_ARTIFACTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.tab.screenshot(path=Path(folder) / f"report-{name}.png", full_page=True)

    def close(self) -> None:
        self.tab.context.close()


@pytest.fixture
def open_page(browser, tmp_path):
    opened = []

    def open_(*records: Record, **options) -> Opened:
        path = tmp_path / "job.html"
        names = [f"job {number}" for number in range(len(records))]
        path.write_bytes(page.page(records, names))
        opened.append(Opened(browser, path, **options))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def eventful() -> Record:
    """A job to which everything happened."""
    lost = {"worker": "", "end": "failed", "failure": "lost", "partitions": 0}
    rows = [
        task(0, 0, 4, starting=1.0, wall=2.5, cpu=2.0, storing=0.5, fetching=0.3, cold=True,
             peak_memory=600 << 20, memory=1769 << 20, cost=1e-4, worker="worker 1"),
        task(1, 0, 1, worker="", end="throttled", partitions=0),
        task(2, 1, 2, **lost),
        task(3, 3, 5, attempt=2, lo=2, hi=3, worker="worker 2", cost=1e-4),
        task(4, 4, 2, speculative=True, lo=2, hi=3, worker="", end="abandoned", partitions=0),
        task(5, 8, 1, kind="merge", lo=0, hi=4, partitions=0, worker="worker 1", cost=1e-5),
    ]  # fmt: skip
    hostile = "</script><script>console.error('escaped')</script><img src=x onerror=alert(1)>"
    failures = tuple(
        FailureRow(3.0, 2, "map", i, i + 1, "mapper", f"ValueError: {hostile}", hostile, None)
        for i in range(30)
    )
    refused = (ThrottleRow(1.0, 1, 3, "429"),)
    return job(*rows, failures=failures, throttles=refused, npartitions=4, error=hostile)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("desktop", DESKTOP),
        ("phone", PHONE),
        ("dark", DESKTOP | {"color_scheme": "dark"}),
    ],
)
def test_it_opens_without_a_complaint_and_every_chart_is_drawn(open_page, name, options):
    opened = open_page(eventful(), **options)
    opened.keep(name)
    assert opened.complaints == []
    assert len(opened.requests) == 1, "the page is one file, and asks for nothing else"
    for chart in CHARTS:
        assert opened.ink(f"{chart}-0") > 0.001, f"nothing is drawn in {chart}"
    width = opened.tab.evaluate("document.documentElement.scrollWidth")
    assert width == options["viewport"]["width"], "it scrolls sideways"
    ground = opened.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 24, 28)" if name == "dark" else "rgb(255, 255, 255)")


def test_a_change_to_dark_is_followed(open_page):
    opened = open_page(eventful(), **DESKTOP)
    colour = "Bokeh.documents.map((one) => one.roots()[0].background_fill_color)"
    assert set(opened.tab.evaluate(colour)) == {"#ffffff"}
    opened.tab.emulate_media(color_scheme="dark")
    opened.tab.wait_for_function(f"{colour}.every((one) => one === '#14181c')", timeout=10_000)


def test_what_a_user_wrote_is_text(open_page):
    opened = open_page(eventful(), **DESKTOP)
    assert opened.complaints == []
    assert opened.tab.locator("img").count() == 0
    assert "escaped" in opened.tab.locator("details pre").first.inner_text()
    assert "30 times" in opened.tab.locator("summary").first.inner_text()


def test_an_empty_job_has_a_page_too(open_page):
    opened = open_page(job(npartitions=3, error="BrokenExecutorError: no workers"), **DESKTOP)
    assert opened.complaints == []
    assert "failed" in opened.tab.locator("h1").inner_text()


def test_two_jobs_are_side_by_side(open_page):
    opened = open_page(eventful(), large(200, workers=20), **DESKTOP)
    opened.keep("compare")
    assert opened.complaints == []
    assert opened.ink("tree-1") > 0.001
    assert opened.tab.locator(".compare th").nth(1).inner_text() == "job 0"


def test_ten_thousand_tasks_are_interactive_in_two_seconds_and_zoom_smoothly(browser, tmp_path):
    report.write(large(), tmp_path / "job.html")
    seconds = []
    for _ in range(3):  # the machine may be busy: the best of three, or else the thread's own time
        opened = Opened(browser, tmp_path / "job.html", **DESKTOP)
        assert opened.complaints == []
        assert opened.ink("timeline-0") > 0.1
        assert opened.ink("tree-0") > 0.1
        seconds.append(min(opened.interactive, opened.cpu))
        print(f"interactive after {opened.interactive} s, {opened.cpu:.2f} s of them CPU")
        if seconds[-1] >= 2:
            opened.close()
            continue
        box = opened.tab.locator("#timeline-0").bounding_box()
        opened.tab.mouse.move(box["x"] + 400, box["y"] + 200)
        opened.tab.mouse.down()
        opened.tab.mouse.move(box["x"] + 700, box["y"] + 500, steps=5)
        opened.tab.evaluate("window.zoomed = performance.now()")
        opened.tab.mouse.up()
        ranges = "[Bokeh.documents[0].roots()[0].x_range].map((r) => r.end - r.start)[0]"
        opened.tab.wait_for_function(f"{ranges} < 20")
        frame = "new Promise((done) => requestAnimationFrame(() => done(performance.now())))"
        assert opened.tab.evaluate(frame) - opened.tab.evaluate("window.zoomed") < 1000
        opened.keep("10000-tasks")
        opened.close()
        break
    assert min(seconds) < 2
