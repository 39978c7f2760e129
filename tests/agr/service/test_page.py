"""The page in a real browser: a fake microphone, files, errors, the timeline, the keyboard, and what axe-core finds."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile

from agr.audio import read as audio
from agr.common.places import SHIPPED
from agr.service import problems
from agr.synth import demo

CHROMIUM = Path("/usr/bin/chromium")
pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium: apt-get install chromium"),
]
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
SECONDS = 30_000  # milliseconds that an answer may take on a busy machine
ANSWER = "#list > li"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A woman's and a man's synthetic voice, both after each other, silence, and a text."""
    folder = tmp_path_factory.mktemp("sounds")
    demo.write_demo(folder / "demo", 2, 1)
    said = {}
    for speaker, name in (("01", "first"), ("02", "second")):
        paths = sorted(path for path in audio.find(folder / "demo") if path.parent.name == speaker)
        said[name] = np.concatenate([audio.load(path, 16_000) for path in paths])
        soundfile.write(folder / f"{name}.wav", said[name], 16_000)
    soundfile.write(folder / "both.wav", np.concatenate([said["first"], said["second"]]), 16_000)
    soundfile.write(folder / "silence.wav", np.zeros(16_000, dtype=np.float32), 16_000)
    (folder / "letter.txt").write_text("no sound", encoding="utf-8")
    return folder


@contextmanager
def serving(place: Path, **variables: str) -> Iterator[str]:
    """The URL of a service with the champion that comes with AGR, which takes files of up to 1 MiB."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"AGR_CHAMPION": str(SHIPPED), "AGR_STORE": str(place)} | variables
    command = [sys.executable, "-m", "agr.serve", "--model-uri", "champion", "--max-mib", "1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    urllib.request.urlopen(f"{url}ready", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service."""
    with serving(tmp_path_factory.mktemp("service")) as url:
        yield url


@pytest.fixture(scope="module")
def browser(sounds: Path) -> Iterator[Browser]:
    """Chromium whose microphone plays the first voice."""
    fake = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    heard = f"--use-file-for-fake-audio-capture={sounds / 'first.wav'}"
    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", *QUIET, *fake, heard]
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def refused() -> list[int]:
    """Statuses that a test expects, of which the browser itself writes on the console."""
    return []


@pytest.fixture
def page(browser: Browser, service: str, refused: list[int]) -> Iterator[Page]:
    """The page, opened. Afterwards nothing may stand on the console, and nothing be asked of anybody else."""
    with opened_page(browser, service, refused) as opened:
        expect(opened.locator("#open-card")).to_be_visible(timeout=SECONDS)
        yield opened


@contextmanager
def opened_page(browser: Browser, service: str, refused: list[int]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, permissions=["microphone"])
    opened, said, asked = context.new_page(), list[str](), list[str]()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(service)
    yield opened
    context.close()
    of_browser = [f"Failed to load resource: the server responded with a status of {status}" for status in refused]
    assert [text for text in said if not text.startswith(tuple(of_browser))] == []
    elsewhere = [url for url in asked if not url.startswith((service, "blob:", "data:"))]
    assert elsewhere == []


def give(page: Page, *paths: Path) -> None:
    page.locator("#files").set_input_files([str(path) for path in paths])


def label(page: Page, index: int = 0) -> str:
    heading = page.locator(ANSWER).nth(index).get_by_role("heading").first
    expect(heading).not_to_have_text("", timeout=SECONDS)
    expect(page.locator(ANSWER).nth(index)).not_to_have_attribute("aria-busy", "true", timeout=SECONDS)
    return heading.inner_text()


def answered(page: Page, count: int) -> None:
    saved = page.locator(ANSWER).get_by_role("button", name=re.compile("JSON"))
    expect(saved).to_have_count(count, timeout=SECONDS)


def test_a_file_is_answered_and_can_be_heard_and_saved(page: Page, sounds: Path) -> None:
    give(page, sounds / "first.wav")
    answered(page, 1)
    card = page.locator(ANSWER)
    expect(card).to_contain_text("first.wav")
    expect(card).to_contain_text(re.compile(r"\d+\s?%"))
    for kind in ("JSON", "CSV", "TextGrid"):
        with page.expect_download() as download:
            card.get_by_role("button", name=re.compile(kind)).click()
        text = Path(download.value.path()).read_text(encoding="utf-8")
        assert {"JSON": '"label"', "CSV": "first.wav", "TextGrid": "ooTextFile"}[kind] in text


def test_several_files_are_answered_each_with_its_own_error(page: Page, sounds: Path) -> None:
    give(page, sounds / "first.wav", sounds / "letter.txt", sounds / "silence.wav")
    answered(page, 2)
    cards = page.locator(ANSWER)
    expect(cards).to_have_count(3)
    expect(cards.filter(has_text="letter.txt")).to_contain_text(re.compile("sound", re.IGNORECASE))
    expect(cards.filter(has_text="letter.txt")).not_to_contain_text("null")
    expect(cards.filter(has_text="silence.wav")).to_contain_text(re.compile("no speech", re.IGNORECASE))


def test_the_microphone_is_heard_and_answered(page: Page) -> None:
    page.locator("#record").click()
    expect(page.locator("#live")).to_be_visible()
    page.wait_for_timeout(4_000)
    page.locator("#record").click()
    answered(page, 1)
    expect(page.locator("#live")).to_be_hidden()


def test_the_picture_of_what_moved_the_answer_fits_the_screen(page: Page, sounds: Path) -> None:
    give(page, sounds / "first.wav")
    answered(page, 1)
    summary = page.locator(f"{ANSWER} details summary").first
    if page.locator(f"{ANSWER} details").first.get_attribute("open") is None:
        summary.click()
    picture = page.locator(f"{ANSWER} .picture img")
    expect(picture).to_be_visible(timeout=SECONDS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_timeline_is_moved_by_the_keyboard(page: Page, sounds: Path) -> None:
    give(page, sounds / "both.wav")
    answered(page, 1)
    strip = page.get_by_role("slider")
    strip.focus()
    before = float(strip.get_attribute("aria-valuenow") or 0)
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(strip).not_to_have_attribute("aria-valuenow", f"{before:.2f}")


def test_everything_is_reached_by_the_tab_key(page: Page) -> None:
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"record", "files", "abstain", "open-card"} <= reached


def test_the_card_opens_and_closes(page: Page) -> None:
    page.locator("#open-card").click()
    expect(page.locator("#card-text")).to_contain_text("Where it must not be used")
    page.keyboard.press("Escape")
    expect(page.locator("#card-text")).to_be_hidden()


def test_dropped_files_are_answered(page: Page, sounds: Path) -> None:
    given = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in sorted(sounds.glob("[fs]*.wav"))]
    transfer = page.evaluate_handle(
        """given => {
            const transfer = new DataTransfer();
            for (const [name, text] of given)
                transfer.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
            return transfer;
        }""",
        given,
    )
    for event in ("dragenter", "dragover"):
        page.dispatch_event("#drop", event, {"dataTransfer": transfer})
    expect(page.locator("body")).to_have_class(re.compile("dragging"))
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    answered(page, 3)
    expect(page.locator("body")).not_to_have_class(re.compile("dragging"))
    for name, _ in given:
        expect(page.locator(ANSWER).filter(has_text=name)).to_have_count(1)


def test_a_file_over_the_limit_is_told_to_be_too_large(page: Page, tmp_path: Path, refused: list[int]) -> None:
    refused.append(413)
    (tmp_path / "large.wav").write_bytes(bytes(2**20 + 1))
    give(page, tmp_path / "large.wav")
    expect(page.locator(ANSWER)).to_contain_text("expected at most 1048576", timeout=SECONDS)


def test_a_busy_service_is_asked_again_when_it_said(page: Page, sounds: Path, refused: list[int]) -> None:
    refused.append(429)
    busy = problems.answer(429, "too much is waiting", {"Retry-After": "2"})
    headers = {name: value for name, value in busy.headers.items() if name != "content-length"}
    page.route("**/v1/predict*", lambda route: route.fulfill(status=429, headers=headers, body=busy.body), times=1)
    began = time.monotonic()
    give(page, sounds / "first.wav")
    expect(page.locator(ANSWER)).to_contain_text("Next try in 2 seconds")
    answered(page, 1)
    assert time.monotonic() - began > 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, sounds: Path, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    give(page, sounds / "first.wav", sounds / "letter.txt")
    answered(page, 1)
    assert axe(page) == []
    page.set_viewport_size({"width": 1280, "height": 800})
    assert axe(page) == []
    page.locator("#open-card").click()
    expect(page.locator("#card-text")).to_be_visible()
    assert axe(page) == []


def axe(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core finds: its rule, and the elements."""
    driver = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-playwright-python")
    source = (Path(driver.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(source)  # not as a script of the page: its content policy forbids those
    found = page.evaluate("axe.run()")
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]


def test_the_token_is_asked_for_once_and_shown_from_then_on(
    browser: Browser, sounds: Path, tmp_path: Path, refused: list[int]
) -> None:
    refused.append(401)
    with serving(tmp_path, AGR_TOKEN="a secret") as url, opened_page(browser, url, refused) as page:
        dialog = page.locator("#token")
        expect(dialog).to_be_visible(timeout=SECONDS)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert axe(page) == []
        for text in ("wrong", "a secret"):
            page.locator("#token-text").fill(text)
            page.keyboard.press("Enter")
        expect(dialog).to_be_hidden(timeout=SECONDS)
        give(page, sounds / "first.wav")
        answered(page, 1)
        expect(dialog).to_be_hidden()


def test_the_page_is_small() -> None:
    folder = Path(sys.modules["agr"].__file__ or "").parent / "service" / "page"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 150_000
