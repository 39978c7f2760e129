"""The page in Chromium, with the service behind it and a microphone that plays a file."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from agr.service.app import create
from agr.service.settings import Settings
from tests.agr.service.conftest import eventually

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream"]
FLAGS += ["--use-fake-device-for-media-stream"]
MOST_BYTES = 150_000
PAGE = Path(create.__code__.co_filename).parent / "page"
TWO = {
    "path": "two.wav",
    "label": "mixed",
    "probability": {"female": 0.5, "male": 0.5},
    "speech_seconds": 3.0,
    "shares": {"female": 0.5, "male": 0.5},
    "seconds": {"female": 1.5, "male": 1.5, "no speech": 1.0},
    "segments": [
        {"start": 0.5, "end": 2.0, "label": "female", "probability": 0.9},
        {"start": 2.0, "end": 3.5, "label": "male", "probability": 0.8},
    ],
}
pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def clip(voices: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten words of one synthetic speaker."""
    read = [soundfile.read(path) for path in voices[:10]]
    path = tmp_path_factory.mktemp("clips") / "two.wav"
    soundfile.write(path, np.concatenate([samples for samples, _ in read]), read[0][1])
    return path


@pytest.fixture(scope="module")
def address(bundle_folder: Path) -> Iterator[str]:
    """The service, in a thread."""
    app = create(Settings(model_uri=str(bundle_folder), concurrency=1))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert eventually(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser(clip: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={clip}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, opened; it must ask no other server, and leave nothing on the console."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    yield page
    page.close()
    assert told == []
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []


def answered(page: Page, clip: Path) -> None:
    """Choose a file, which is answered by TWO."""
    page.route(
        "**/v1/predict*", lambda route: route.fulfill(json={"model": {"name": "agr", "version": 7}, "answers": [TWO]})
    )
    page.set_input_files("#files", clip)
    expect(page.get_by_role("heading", name="Women and men")).to_be_visible()


def test_a_file_is_answered_by_the_service(page: Page, clip: Path) -> None:
    page.set_input_files("#files", clip)
    expect(page.locator(".answer h3")).to_have_class(re.compile("male"), timeout=30_000)
    expect(page.locator(".picture img")).to_be_visible(timeout=30_000)


def test_the_microphone_is_heard_and_answered(page: Page) -> None:
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#clock")).to_have_text("0:02", timeout=20_000)
    page.get_by_role("button", name="Stop recording").click()
    expect(page.locator(".answer h3")).to_have_count(1, timeout=30_000)


def test_the_timeline_plays_from_where_it_is_clicked_and_obeys_the_keyboard(page: Page, clip: Path) -> None:
    answered(page, clip)
    slider = page.get_by_role("slider")
    slider.press("PageDown")
    expect(slider).to_have_attribute("aria-valuenow", "0.50")
    slider.press("PageDown")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^0:02.0 of 0:04.0, a man"))
    slider.click()
    expect(page.get_by_role("button", name="Pause two.wav")).to_be_visible()


def test_a_file_that_is_no_sound_is_told(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    page.set_input_files("#files", broken)
    expect(page.get_by_role("heading", name="Not answered")).to_be_visible(timeout=30_000)
    expect(page.locator(".answer")).to_contain_text("broken.wav:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, clip: Path, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    answered(page, clip)
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.response["violations"] == []


def test_the_page_is_small() -> None:
    assert 0 < sum(path.stat().st_size for path in PAGE.rglob("*") if path.is_file()) < MOST_BYTES
