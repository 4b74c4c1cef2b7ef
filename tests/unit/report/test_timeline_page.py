"""Timeline page, self-contained except for the video; table, subtitles and CSV."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from kinema.report.timeline import (
    MOST_CURVES,
    MOST_POINTS,
    clock,
    draw_curves,
    segment_table,
    write_segments_csv,
    write_subtitles,
    write_timeline_page,
)
from kinema.timeline import Segment, Timeline

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Collects what the page would load, its buttons and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.starts: list[str] = []
        self.curves = 0
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag in ("link", "iframe", "img") or (tag == "script" and "src" in named):
            self.loaded.append(tag)
        if tag == "video":
            self.loaded.append(named["src"])
        if tag == "button" and "data-start" in named and "tabindex" not in named:
            self.starts.append(named["data-start"])
        self.curves += tag == "path"

    def handle_data(self, data):
        self.text += data


def timeline_of(path: Path, *, windows: int = 12, error: str | None = None) -> Timeline:
    """Windows of 2 s, one a second, of eight classes with made-up scores."""
    starts_s = np.arange(windows, dtype=np.float64)
    scores = np.random.default_rng(0).normal(0, 1, (windows, 8)).astype(np.float32)
    names = ("<b>fast</b>", "slow & low", *(f"class {k}" for k in range(2, 8)))
    segments = (
        Segment(0.0, 3.5, 0, names[0], 0.91),
        Segment(4.0, windows + 1.0, 7, names[7], 0.55),
    )
    duration_s = windows + 1.0
    ends_s = starts_s + 2
    return Timeline(
        str(path), duration_s, names, 2.0, 1.0, starts_s, ends_s, scores, segments, error
    )


def test_the_page_needs_only_the_video(tmp_path):
    (tmp_path / "pages").mkdir()
    video = tmp_path / "a #1 video.mp4"
    out = write_timeline_page(timeline_of(video), tmp_path / "pages" / "t.html")
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert page.loaded == ["../a%20%231%20video.mp4"]
    assert page.starts == ["0.000", "4.000"]
    assert page.curves == MOST_CURVES
    assert "<b>fast</b>" in page.text
    assert "<b>fast</b>" not in text
    assert "slow &amp; low" in text
    assert "12 windows of\n    2.00 s, one every 1.00 s" in page.text
    assert not re.search(r"https?://|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert list((tmp_path / "pages").iterdir()) == [out]


def test_damage_is_on_the_page(tmp_path):
    broken = timeline_of(tmp_path / "v.mp4", error="v.mp4 <stopped> at 3 s")
    text = write_timeline_page(broken, tmp_path / "t.html").read_text(encoding="utf-8")
    assert "v.mp4 &lt;stopped&gt; at 3 s" in text


def test_a_video_without_segments_has_a_page(tmp_path):
    found = timeline_of(tmp_path / "v.mp4", windows=1)
    empty = Timeline(**{**vars(found), "segments": ()})
    page = Page(write_timeline_page(empty, tmp_path / "t.html").read_text(encoding="utf-8"))
    assert "No class is probable enough for a segment." in page.text
    assert page.starts == []


def test_curves_of_hours_keep_their_peaks():
    found = timeline_of(Path("v.mp4"), windows=9000)
    found.scores[4000:4003, 3] = 50
    curves = draw_curves(found)
    # The longest segment first.
    assert [curve.name for curve in curves][:2] == ["class 7", "<b>fast</b>"]
    assert all(curve.path.count("L") == MOST_POINTS + 1 for curve in curves)
    found.scores[:, 3] += 3
    (peaked,) = [curve for curve in draw_curves(found) if curve.name == "class 3"]
    heights = [float(point.split()[1]) for point in peaked.path[1:].split("L")]
    assert min(heights) == pytest.approx(0, abs=0.05)


def test_clock():
    assert [clock(t) for t in (0, 7.46, 59.96, 3723)] == ["0:00.0", "0:07.5", "1:00.0", "1:02:03.0"]


def test_subtitles_and_csv_and_table(tmp_path):
    found = timeline_of(tmp_path / "v.mp4")
    write_subtitles(found, tmp_path / "v.srt")
    assert (tmp_path / "v.srt").read_text(encoding="utf-8") == (
        "1\n00:00:00,000 --> 00:00:03,500\n<b>fast</b> (91 %)\n\n"
        "2\n00:00:04,000 --> 00:00:13,000\nclass 7 (55 %)\n"
    )
    write_segments_csv(found, tmp_path / "v.csv")
    assert (tmp_path / "v.csv").read_text(encoding="utf-8").splitlines() == [
        "start_s,end_s,label,name,prob",
        "0.0,3.5,0,<b>fast</b>,0.91",
        "4.0,13.0,7,class 7,0.55",
    ]
    assert segment_table(found).row_count == 2


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_a_browser_seeks_where_a_segment_begins(tmp_path, color_set):
    video = color_set / "red" / "0.mp4"
    out = write_timeline_page(timeline_of(video), tmp_path / "t.html")
    press = "document.dispatchEvent(new KeyboardEvent('keydown', {key: ']'}));"
    tell = "document.title = axis.getAttribute('aria-valuetext') + '|' + innerWidth;"
    script = f"<script>{press}{tell}</script></body>"
    out.write_text(out.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'b'}"]
    answer = subprocess.run(
        [str(BROWSER), *words, "--virtual-time-budget=2000", "--dump-dom", out.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "<title>0:04, class 7|" in answer.stdout
    assert 'aria-current="true"' in answer.stdout
