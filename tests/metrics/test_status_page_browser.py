"""The status page in a real Chromium: without scripts, renewing itself, for every kind of user."""

import os
import re
import time
from contextlib import contextmanager

import pytest

from bufpool_workers import Settings
from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.history import Sample, record
from bufpool_workers.counters.node_file import NodeInfo, publish
from bufpool_workers.metrics import Endpoint, wsgi_app
from bufpool_workers.pool_stats import FIELDS
from tests.support.browser import chromium
from tests.support.counters import make_file
from tests.support.waiting import wait_until

HOSTILE = "<img src=x onerror=alert(1)>\"'&</script><script>alert(2)</script>"
LABELS = ("2kb", "4kb", "8kb", "16kb", "32kb", "64kb", "256kb", "1mb", "4mb", "16mb", "larger")
# the page's timer of two seconds, in the test's hands
STEPPED = (
    "const timer = window.setTimeout;"
    "window.setTimeout = (work, milliseconds) =>"
    " milliseconds === 2000 ? ((window.step = work), 1) : timer(work, milliseconds);"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


class Node:
    """A node's endpoint, whose counters the test sets, and how often its page was asked for."""

    def __init__(self, directory):
        self.requests = 0
        self.directory = directory
        directory.mkdir()
        self.file = make_file(
            directory,
            catalog=Catalog(),
            pools={"regular": LABELS, "secure": LABELS},
            places=True,
            tasks=True,
        )
        self._app = wsgi_app(directory)
        self._endpoint = Endpoint.start(self._count_and_answer, port=0)
        self.url = f"http://127.0.0.1:{self._endpoint.port}/"

    @contextmanager
    def failing(self):
        away = self.directory.rename(self.directory.with_name("away"))
        yield
        away.rename(self.directory)

    def _count_and_answer(self, environ, start_response):
        self.requests += environ["PATH_INFO"] == "/"
        return self._app(environ, start_response)

    def set(self, *, pool="regular", label="4kb", **fields):
        at = LABELS.index(label) * len(FIELDS)
        with memoryview(self.file.buffer) as bytes_, bytes_.cast("d") as doubles:
            for field, value in fields.items():
                doubles[self.file.offsets(pool)[at + FIELDS.index(field)] // 8] = value

    def fill(self):
        for label in LABELS:
            self.set(label=label, gets=1e6, puts=999_990, hits=9e5, misses=1e5, idle=30)
        self.set(pool="secure", gets=10, puts=9, hits=10, idle=15, held_bytes=65536)
        self.set(escapes=3, reclaims=2)
        self.file.count_escape(pool="regular", place="/srv/shop/a/long/way/down/images.py:118")
        self.lend("shop.images.resize_for_the_catalog", gets=2e6, peak=12e6)
        self.lend("shop.mail.send", gets=3, peak=4096)
        self.remember()

    def lend(self, task, *, gets, peak):
        places = self.file.places_of(task)
        with memoryview(self.file.buffer) as bytes_, bytes_.cast("d") as doubles:
            doubles[places.offsets[0] // 8] = gets
        with memoryview(places.peaks) as bytes_, bytes_.cast("d") as doubles:
            doubles[places.peak // 8] = peak

    def remember(self):
        """Write an hour of history, with reclaims that are over, and who the node is."""
        now = time.time()
        for n in range(239, 0, -1):
            at, more = now - 15 * n, 1e6 - 4000 * n
            sample = Sample(at, 10 * more, 9 * more - 100 * (n % 40) ** 2, 1e7 + 1e5 * (n % 60))
            counts = {"escapes": 3 if n < 20 else 0, "reclaims": 2 if n < 238 else 0}
            record(self.directory, sample, lambda name, counts=counts: counts.get(name, 0))
        publish(
            self.directory,
            NodeInfo(
                node="celery@worker-1.example.org",
                host="rack-3.example.org",
                app="shop",
                pid=os.getpid(),
                started=now - 12345,
                software={"bufpool_workers": "0.1.0", "python": "3.11.7", "celery": "5.7.0"},
                settings=Settings().in_force(),
                changed=("bufpool_metrics_port",),
            ),
        )

    def close(self):
        self._endpoint.close()
        self.file.close()


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path / "metrics")
    yield node
    node.close()


@pytest.fixture
def page(driver, node):
    """The page of a node; `page(stepped=True)` leaves it to the test when it is renewed."""
    undo = []

    def tell(command, **arguments):
        return driver.execute_cdp_cmd(command, arguments)

    def open_page(*, stepped=False, scripts=True, scheme="light", width=1280):
        if stepped:
            added = tell("Page.addScriptToEvaluateOnNewDocument", source=STEPPED)
            undo.append(lambda: tell("Page.removeScriptToEvaluateOnNewDocument", **added))
        tell("Emulation.setScriptExecutionDisabled", value=not scripts)
        undo.append(lambda: tell("Emulation.setScriptExecutionDisabled", value=False))
        feature = {"name": "prefers-color-scheme", "value": scheme}
        tell("Emulation.setEmulatedMedia", features=[feature])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        tell("Emulation.setDeviceMetricsOverride", **size)
        driver.get_log("browser")  # forgets what was said of other pages
        driver.get(node.url)
        return driver

    yield open_page
    for step in undo:
        step()
    driver.get("about:blank")


def step(page):
    """Run the page's timer out once, and wait for what it does."""
    page.execute_async_script("window.step().then(arguments[0])")


def text(page, selector="body"):
    return page.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def press(page, key):
    from selenium.webdriver import ActionChains  # noqa: PLC0415 - where there is a browser

    ActionChains(page).send_keys(key).perform()


def complaints(page):
    return [entry["message"] for entry in page.get_log("browser")]


def test_it_is_whole_without_scripts(page, node):
    node.fill()
    tab = page(scripts=False)
    body = tab.find_element("tag name", "body").text
    assert "Reload for newer numbers." in body
    assert "Pause updates" not in body
    assert "10 of 40" in body
    assert "/srv/shop/a/long/way/down/images.py:118" in body


def test_it_renews_itself(page, node):
    tab = page()
    assert "No buffer was asked for yet." in text(tab)
    node.set(gets=1234, puts=1234, hits=617, misses=617)
    wait_until(lambda: "1,234" in text(tab, "#pools"), what="the new number")
    assert "50 %" in text(tab, "#pools")
    assert complaints(tab) == []


def test_renewal_leaves_focus_scrolling_and_opened_details_as_they_are(page, node):
    node.set(gets=1)
    tab = page(stepped=True, width=400)
    tab.execute_script(
        "document.querySelector('footer details').open = true;"
        "window.region = document.querySelector('#pools .scroll');"
        "region.focus(); region.scrollLeft = 120;"
    )
    node.fill()  # more rows, another pool, a section that was not there
    step(tab)
    assert "images.py:118" in text(tab, "#escapes")
    left, focused, opened = tab.execute_script(
        "const region = document.querySelector('#pools .scroll');"
        "return [region.scrollLeft, document.activeElement === region && region === window.region,"
        " document.querySelector('footer details').open]"
    )
    assert (left, focused, opened) == (120, True, True)


def test_it_can_be_paused_from_the_keyboard(page, node):
    tab = page(stepped=True)
    press(tab, "\ue004")  # Tab
    assert tab.execute_script("return document.activeElement.innerText") == "Pause updates"
    press(tab, " ")
    asked = node.requests
    step(tab)
    assert node.requests == asked
    assert text(tab, "#updates") == "Paused."
    press(tab, " ")
    step(tab)
    assert node.requests == asked + 1


def test_a_node_that_does_not_answer_is_told_and_found_again(page, node):
    node.set(gets=41)
    tab = page(stepped=True)
    with node.failing():
        step(tab)
        assert "No answer: these numbers are old." in text(tab, "#updates")
        assert "41" in text(tab, "#pools")
    node.set(gets=42)
    step(tab)
    assert text(tab, "#updates") == "Renewed every 2 seconds."
    assert "42" in text(tab, "#pools")


def test_screen_readers_are_told_of_changes_in_state_only(page, node):
    tab = page(stepped=True)
    tab.execute_script(
        "window.spoken = 0;"
        "new MutationObserver((changes) => { window.spoken += changes.length; }).observe("
        "document.querySelector('[role=status]'), {subtree: true, childList: true, "
        "characterData: true});"
    )
    for gets in range(1, 4):
        node.set(gets=gets)
        step(tab)
    assert "3" in text(tab, "#pools")
    assert tab.execute_script("return window.spoken") == 0
    assert tab.execute_script("return document.querySelectorAll('[aria-live]').length") == 0


def test_hostile_names_stay_text(page, node):
    other = make_file(node.directory, catalog=Catalog(), pools={HOSTILE: (HOSTILE,)}, places=True)
    with memoryview(other.buffer) as bytes_, bytes_.cast("d") as doubles:
        doubles[other.offsets(HOSTILE)[0] // 8] = 7
    other.count_escape(pool="regular", place=HOSTILE)
    (node.directory / f"counter_{HOSTILE.replace('/', '')}.db").write_bytes(b"\xff" * 40)
    tab = page(stepped=True)
    step(tab)
    assert HOSTILE in text(tab, "#escapes")
    assert HOSTILE in text(tab, "#pools")
    assert HOSTILE.replace("/", "") in text(tab, "#attention")
    tags = "return [document.scripts.length, document.images.length]"
    assert tab.execute_script(tags) == [1, 0]
    assert complaints(tab) == []
    other.close()


def test_its_policy_lets_nothing_else_run(page):
    tab = page()
    tab.execute_script(
        "const added = document.createElement('script');"
        "added.textContent = 'window.ran = true'; document.body.append(added);"
        "document.body.setAttribute('style', 'color: red');"
        "fetch('http://127.0.0.1:1/').catch(() => 0);"
    )
    assert tab.execute_script("return window.ran") is None
    blocked = wait_until(lambda: complaints(tab), what="the browser's complaints")
    assert any("script-src" in line for line in blocked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
@pytest.mark.parametrize("full", [True, False], ids=["full", "empty"])
def test_no_barrier_is_found(page, node, scheme, width, full):
    axe = pytest.importorskip("axe_core_python.selenium", reason="pip install axe-core-python")
    if full:
        node.fill()
    tab = page(stepped=True, scheme=scheme, width=width)
    if full:
        with node.failing():  # for the words and colours of that, too
            step(tab)
    found = axe.Axe().run(tab)
    assert [(its["id"], [n["html"] for n in its["nodes"]]) for its in found["violations"]] == []
    assert len(found["passes"]) > 20


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_itself_never_scrolls_sideways(page, node, width):
    node.fill()
    tab = page(width=width)
    assert tab.execute_script("return document.documentElement.scrollWidth") <= width


def test_every_column_shows_on_a_small_desktop(page, node):
    for label in LABELS:
        for pool in ("regular", "secure"):
            node.set(pool=pool, label=label, gets=1e6, puts=999_990, hits=9e5, misses=1e5)
            node.set(pool=pool, label=label, discards=123_456, escapes=1234, held_bytes=3.7e6)
    hidden = page(width=1200).execute_script(
        "return [...document.querySelectorAll('#pools .scroll')]"
        ".map((region) => region.scrollWidth - region.clientWidth)"
    )
    assert hidden == [0, 0]


def test_everything_that_can_be_used_is_reached_by_the_tab_key(page, node):
    node.fill()
    tab = page(stepped=True)
    reached = []
    for _ in range(20):
        press(tab, "\ue004")
        reached.append(
            tab.execute_script(
                "const at = document.activeElement;"
                "return (at.getAttribute('aria-label') || at.innerText || at.tagName).trim()"
            )
        )
    for name in (
        *("Pause updates", "Regular pool, by size of buffer", "Secure pool, by size of buffer"),
        *("Living processes, the oldest first", "Escapes, by where the buffer was acquired"),
        *("What is counted", "for Prometheus", "as JSON"),
    ):
        assert name in reached


def test_the_colour_scheme_is_the_readers(page):
    colours = {}
    for scheme in ("light", "dark"):
        shown = page(scheme=scheme).execute_script(
            "return getComputedStyle(document.body).backgroundColor"
        )
        colours[scheme] = sum(map(int, re.findall(r"\d+", shown)[:3]))
    assert colours["light"] > 3 * 200
    assert colours["dark"] < 3 * 60
