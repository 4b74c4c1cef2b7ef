"""The web page in a real browser: real clips, a broken file, a fake camera that shows a real clip.

Screenshots go to build/screenshots.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import pytest
import torch
from playwright.sync_api import Browser, Page, expect, sync_playwright

from kinema import Recognizer
from kinema.data.transforms import ViewTransform, normalize
from kinema.serve.service import Service
from kinema.values import Preprocessing, Views
from kinema.video.decode import VideoFile

from ..causal import save_causal
from ..conftest import REPOSITORY
from .running import Running, running, write_video

pytestmark = [pytest.mark.slow, pytest.mark.data]

SCREENSHOTS = REPOSITORY / "build" / "screenshots"
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def clip(data_dir) -> Path:
    return data_dir / "clips" / "k400_tai_chi.mp4"


@pytest.fixture(scope="module")
def colored(tmp_path_factory) -> Path:
    """Five stretches of red, green, blue, red, green, each 20 frames at 12 Hz."""
    return write_video(tmp_path_factory.mktemp("colored") / "colored.mp4", frames=100)


@pytest.fixture(scope="module")
def site(tmp_path_factory, checkpoint, colored) -> Iterator[Running]:
    """A causal network that knows colors, and one that looks ahead."""
    how = Preprocessing(frames=4, sampling="dense", window_frames=12, short_side_px=72, crop_px=64)
    folder = save_causal(tmp_path_factory.mktemp("page") / "causal", how=how)
    colors = Recognizer.load(folder, device="cpu")
    teach(colors, colored)
    ahead = Recognizer.load(checkpoint, device="cpu")
    with running(Service({"colors": colors, "ahead": ahead})) as started:
        yield started


@torch.no_grad()
def teach(recognizer: Recognizer, video: Path) -> None:
    """Fits the classifier to the colors of a video, by least squares on the features."""
    net, how = recognizer.net, recognizer.preprocessing
    with VideoFile(video) as file:
        frames_TCHW = file.read(range(0, 100, 3))
    clip = normalize(ViewTransform(how, Views())(frames_TCHW), how.mean, how.std)[0]
    features_TD = torch.cat([net.backbone(part) for part in clip.split(how.frames)[:-1]])
    labels_T = torch.tensor([place * 3 // 20 % 3 for place in range(len(features_TD))])
    wanted_TK = 8.0 * torch.nn.functional.one_hot(labels_T, 3)
    mean_D = features_TD.mean(0)
    weight_DK = torch.linalg.lstsq(features_TD - mean_D, wanted_TK, driver="gelsd").solution
    net.head.classifier.weight.copy_(weight_DK.T)
    net.head.classifier.bias.copy_(-mean_D @ weight_DK + wanted_TK.mean(0))


@pytest.fixture(scope="module")
def browser(tmp_path_factory, clip) -> Iterator[Browser]:
    """Chromium with a camera that shows the clip."""
    program = shutil.which("chromium")
    # A system package that pip cannot install; `make system-packages`, which CI calls, does.
    if program is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    film = camera_film(clip, tmp_path_factory.mktemp("camera") / "film.y4m")
    flags = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
        "--no-sandbox",
    ]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=flags)
        yield started
        started.close()


@pytest.fixture
def opened(browser, site) -> Iterator[Callable[..., Page]]:
    """Opens the page; nothing may fail in it, and nothing may be loaded from elsewhere."""
    contexts, troubles = [], []

    def open_page(url: str | None = None, **options) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda line: line.type == "error" and troubles.append(line.text))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((url or site.url, "data:", "blob:"))
                or troubles.append(request.url)
            ),
        )
        page.goto(url or site.url)
        return page

    open_page.troubles = troubles
    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def camera_film(clip: Path, out: Path) -> Path:
    """What Chromium takes for a camera: plain pictures one after the other."""
    with av.open(str(clip)) as source, out.open("wb") as film:
        film.write(b"YUV4MPEG2 W320 H240 F25:1 Ip A1:1 C420jpeg\n")
        for frame in islice(source.decode(video=0), 100):
            film.write(b"FRAME\n" + frame.reformat(320, 240, "yuv420p").to_ndarray().tobytes())
    return out


def shoot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def fits(page: Page) -> bool:
    """Whether nothing is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_clip(opened, site, clip):
    page = opened()
    expect(page.get_by_role("status")).to_have_text("2 models ready.")
    page.locator("#clip-file").set_input_files(clip)
    expect(page.get_by_role("heading", name=clip.name)).to_be_visible()
    expected = site.service.models["colors"].recognizer.predict(clip)
    rows = page.locator("#clip-top li")
    expect(rows).to_have_count(3)
    for place, entry in enumerate(expected.top):
        expect(rows.nth(place)).to_contain_text(entry.name)
        expect(rows.nth(place)).to_contain_text(f"{100 * entry.prob:.1f} %")
    expect(page.get_by_role("status")).to_contain_text(f"{clip.name}: {expected.top[0].name}")
    images = page.get_by_role("img", name=re.compile(r"Frame \d+ at"))
    expect(images).to_have_count(4)
    assert all(image.evaluate("i => i.naturalWidth") == 64 for image in images.all())
    shoot(page, "clip-light")
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    shoot(page, "clip-dark")
    page.get_by_label("Model").select_option("ahead")
    page.locator("#clip-file").set_input_files(clip)
    expect(page.locator("#clip-facts")).to_contain_text("by ahead")


def test_a_broken_file(opened, tmp_path):
    broken = tmp_path / "holiday.mp4"
    broken.write_bytes(b"no video " * 100)
    page = opened()
    expect(page.get_by_role("status")).to_contain_text("ready")
    page.locator("#clip-file").set_input_files(broken)
    alert = page.get_by_role("alert")
    expect(alert).to_have_text("holiday.mp4 cannot be read: it is damaged or not a video.")
    expect(page.locator("#clip-result")).to_be_hidden()
    shoot(page, "broken")
    assert len(opened.troubles) == 1  # the browser's own line about the answer
    assert "422" in opened.troubles.pop()


def test_a_file_is_dropped(opened, clip):
    page = opened()
    expect(page.get_by_role("status")).to_contain_text("ready")
    data = clip.read_bytes().hex()
    transfer = page.evaluate_handle(
        """(hex) => {
            const bytes = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "dropped.mp4"));
            return transfer;
        }""",
        data,
    )
    page.dispatch_event("#clip-drop", "drop", {"dataTransfer": transfer})
    expect(page.get_by_role("heading", name="dropped.mp4")).to_be_visible()


def test_a_long_video(opened, colored, clip):
    page = opened()
    page.get_by_role("tab", name="Long video").click()
    page.locator("#timeline-file").set_input_files(colored)
    expect(page.get_by_role("heading", name="colored.mp4")).to_be_visible(timeout=20_000)
    rows = page.locator("#segments tr")
    buttons = page.get_by_role("group", name="Segments").get_by_role("button")
    names = ["red", "green", "blue", "red", "green"]
    assert [row.locator("td").nth(2).inner_text() for row in rows.all()] == names
    assert [button.inner_text() for button in buttons.all()] == names
    shoot(page, "timeline-segments")
    buttons.nth(2).click()
    expect(buttons.nth(2)).to_have_attribute("aria-current", "true")
    expect(buttons.nth(1)).to_have_attribute("aria-current", "false")
    page.locator("#timeline-file").set_input_files(clip)  # one that the browser can play
    expect(page.get_by_role("heading", name=clip.name)).to_be_visible(timeout=20_000)
    last = buttons.last
    start = float(last.get_attribute("data-start"))
    last.focus()
    page.keyboard.press("Enter")
    expect(last).to_have_attribute("aria-current", "true")
    expect(page.locator("#timeline-now")).to_have_text(last.get_attribute("aria-label"))
    now = page.locator("#timeline-video").evaluate("v => v.currentTime")
    assert now == pytest.approx(start, abs=0.05)
    page.wait_for_function("document.getElementById('timeline-video').readyState >= 2")
    shoot(page, "timeline")


def test_a_long_video_can_be_cancelled(opened, tmp_path):
    long = write_video(tmp_path / "long.mp4", frames=1500, size=(320, 240))
    page = opened()
    page.get_by_role("tab", name="Long video").click()
    page.get_by_label("Window length in seconds").fill("0.5")
    page.locator("#timeline-file").set_input_files(long)
    expect(page.get_by_role("status")).to_contain_text("windows", timeout=20_000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status")).to_have_text("Cancelled.")


def test_the_camera(opened, site):
    page = opened()
    frames = site.count("stream_frames_total", model="colors")
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    facts = page.locator("#live-facts")
    expect(facts).to_have_text(
        re.compile(r"Latency \d+ ms \(server \d+ ms\), [\d.]+ frames per second, \d\d+ frames\."),
        timeout=20_000,
    )
    expect(page.locator("#live-top li")).to_have_count(3)
    assert page.locator("#live-video").evaluate("v => v.videoWidth") == 320
    shoot(page, "live")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    assert site.count("stream_frames_total", model="colors") >= frames + 10
    page.get_by_label("Model").select_option("ahead")
    expect(page.get_by_role("button", name="Start the camera")).to_be_disabled()
    expect(page.locator("#live-hint")).to_contain_text("looks ahead")


def test_by_keyboard_alone(opened, clip):
    page = opened()
    expect(page.get_by_role("status")).to_contain_text("ready")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["model", "theme", "tab-clip", "clips", "crops", "clip-file"]
    page.get_by_role("tab", name="Clip").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-timeline"
    expect(page.get_by_role("tabpanel", name="Long video")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.get_by_label("Drop a video here").focus()
    with page.expect_file_chooser() as chosen:
        page.evaluate("0")  # by now the browser knows that the dialog is not to be shown
        page.keyboard.press("Enter")
    chosen.value.set_files(clip)
    expect(page.get_by_role("heading", name=clip.name)).to_be_visible()


def test_every_control_has_a_name(opened):
    page = opened()
    for node in page.locator("button, input, select, progress, video").all():
        name = node.evaluate("n => n.ariaLabel || n.labels?.[0]?.innerText || n.innerText")
        assert name, node.evaluate("n => n.outerHTML")


def test_a_phone(opened, clip):
    page = opened(viewport=PHONE, color_scheme="dark")
    page.locator("#clip-file").set_input_files(clip)
    expect(page.get_by_role("heading", name=clip.name)).to_be_visible()
    assert fits(page)
    shoot(page, "phone-clip")
    page.get_by_role("tab", name="Long video").click()
    page.locator("#timeline-file").set_input_files(clip)
    expect(page.locator("#timeline-result")).to_be_visible(timeout=20_000)
    assert fits(page)
    shoot(page, "phone-timeline")
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#live-facts")).to_contain_text("Latency", timeout=20_000)
    assert fits(page)
    shoot(page, "phone-live")


def test_a_server_with_a_key(opened, program, clip):
    started = program("--api-key", "secret")
    page = opened(started.url)
    expect(page.get_by_role("status")).to_have_text("This server needs its API key.")
    shoot(page, "key")
    for word in ("sesame", "secret"):
        page.get_by_label("API key").fill(word)
        page.get_by_role("button", name="Use it").click()
        if word == "sesame":
            expect(page.get_by_role("alert")).to_have_text("That is not this server's API key.")
    expect(page.get_by_role("status")).to_have_text("1 model ready.")
    page.locator("#clip-file").set_input_files(clip)
    expect(page.get_by_role("heading", name=clip.name)).to_be_visible()
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#live-facts")).to_contain_text("Latency", timeout=20_000)
    page.get_by_role("button", name="Stop").click()
    assert all("401" in line for line in opened.troubles)
    opened.troubles.clear()
