"""The how-to "train on your own data": its lists with videos, and its error messages."""

import json
import re
import shlex
import shutil
from itertools import count, pairwise, takewhile
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from kinema.cli.main import app
from kinema.data.annotations import FORMATS, read_annotations
from kinema.data.mirrored_names import mirrored_class_name
from kinema.errors import UnreadableVideoError
from kinema.video.decode import is_video_path, open_source

from .pages import Page, run_kinema, small_recipe, videos_in_class_folders

PAGE = Page("docs/howto/own_data.md")
LISTS = dict(
    re.findall(r"`([\w./]+)`[^`\n]*:\n\n```(?:text|json)\n(.*?)```", PAGE.text, flags=re.DOTALL)
)
WRONG_LINES = re.findall(r"^- `([^`]+)`: `([^`]+)`$", PAGE.text, flags=re.MULTILINE)
# Other messages of the page, with the files (None: a folder) that cause them.
WRONG_FILES = [
    (
        {"videos/val/swim/a.mp4": "", "videos/train/jump/a.mp4": "", "videos/train/run/a.mp4": ""},
        "kinema data check videos/train videos/val --format folders",
    ),
    ({"empty": None}, "kinema data check empty --format folders"),
    ({"flat/a.mp4": "", "flat/b.mp4": ""}, "kinema data check flat --format folders"),
    ({"train.csv": "run/a.mp4,run\n"}, "kinema data check train.csv"),
    ({"train.csv": "path,class\nrun/a.mp4,run\n"}, "kinema data check train.csv"),
    ({"jester.csv": "video_id;label\n" + LISTS["jester.csv"]}, "jester.csv"),
    ({}, "kinema data check v1.csv --format sthv1"),
    ({"v2.json": LISTS["v2.json"].replace("\n]", ",\n{}]")}, "v2.json"),
    ({"v2.json": "{}"}, "v2.json"),
    ({}, "kinema data convert splits out.csv --format hmdb51 --split 4"),
    (
        {"splits/brush_hair_test_split1.txt": "a.avi 1\nb.avi 1\nc.avi 1\na.avi\n"},
        "kinema data convert splits out.csv --format hmdb51",
    ),
    (
        {"diving.json": LISTS["diving.json"].replace("\n]", ',\n{"vid_name": "v", "label": 48}]')},
        "diving.json",
    ),
    (
        {"list.csv": LISTS["trainingSet.csv"]},
        "kinema data check list.csv --format moments_in_time",
    ),
]


def checking(file: str) -> str:
    """Command of the page that checks this list."""
    return next(c for c in PAGE.commands if c.startswith(f"kinema data check {file} "))


def failure(command: str) -> str:
    """Error message of a command that must fail."""
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 1, (command, result.output)
    return str(result.exception)


def write(files: dict[str, str | None]) -> None:
    for name, content in files.items():
        path = Path(name)
        if content is None:
            path.mkdir()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


@pytest.fixture
def lists(tmp_path, monkeypatch) -> None:
    """Folder with the lists of the page, without their videos."""
    monkeypatch.chdir(tmp_path)
    write(LISTS)


def test_the_page_has_every_format():
    assert len(LISTS) == 13
    table = re.findall(r"^\| \[`(\w+)`\]", PAGE.text, flags=re.MULTILINE)
    assert sorted(table) == sorted(FORMATS)


@pytest.mark.usefixtures("lists")
@pytest.mark.parametrize(("line", "message"), WRONG_LINES)
def test_wrong_lines_are_named_as_the_page_says(line, message):
    name = message.split(",")[0]
    with Path(name).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    assert failure(checking(name)) == message


def test_every_list_of_lines_has_a_wrong_one():
    assert len(WRONG_LINES) >= 10
    named = {message.split(",")[0] for _, message in WRONG_LINES}
    assert named | {"classes.txt", "jester.csv", "moments_categories.txt"} >= {
        name for name in LISTS if "/" not in name and not name.endswith(".json")
    }


@pytest.mark.usefixtures("lists")
@pytest.mark.parametrize(("files", "command"), WRONG_FILES)
def test_other_wrong_files_are_named_as_the_page_says(files, command):
    write(files)
    message = failure(command if command.startswith("kinema") else checking(command))
    assert f"`{message}`" in PAGE.text


@pytest.fixture
def put(color_set):
    """Writes different videos, or folders of frames, to the given paths."""
    videos, number = sorted(color_set.rglob("*.mp4")), count()

    def place(path: Path) -> None:
        mine = next(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_video_path(path):
            shutil.copy(videos[mine % len(videos)], path)
            return
        path.mkdir()
        for frame in range(1, 13):
            color = (mine, 20 * frame, 0)
            Image.new("RGB", (48, 36), color).save(path / f"img_{frame:05d}.jpg")

    return place


def fill(command: str, put) -> None:
    """Writes the videos that the lists of a command contain."""
    words = shlex.split(command)[3:]
    files = takewhile(lambda word: not word.startswith("--"), words)
    options = dict(pairwise(words))
    root = Path(options["--root"])
    for file in files:
        rows = read_annotations(
            file,
            format=options.get("--format", "csv"),
            root=root,
            classes=options.get("--classes"),
        )
        for sample in rows.samples:
            if not (root / sample.path).exists():
                put(root / sample.path)


@pytest.mark.slow
@pytest.mark.usefixtures("lists")
def test_every_list_of_the_page_is_read_with_its_videos(put):
    checked = 0
    after_the_folders = PAGE.commands[6:]
    for command in after_the_folders:
        if "data check" in command:
            fill(command, put)
            checked += 1
        run_kinema(
            command,
            [
                ("data prepare", "data prepare --workers 0"),
                # The lists of the page are the first lines of long ones.
                ("data check", "data check --empty-classes allow"),
            ],
        )
    assert checked == 11
    assert Path("videos256_csv/train.csv").is_file()
    without_labels = LISTS["train.csv"].replace("a.mp4,run", "a.mp4,")
    write({"train.csv": without_labels})
    words = "data.format=csv data.train=train.csv data.val=train.csv data.root=videos"
    small_recipe(Path())
    message = failure(f"kinema train recipes/own_videos.toml {words} --out runs/x")
    assert f"`{message.split(' Training')[0]}`" in PAGE.text


@pytest.mark.slow
def test_from_the_files_to_a_trained_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_recipe(tmp_path)
    videos_in_class_folders(tmp_path)
    for command in PAGE.commands[:6]:
        run_kinema(
            command,
            [
                ("data prepare", "data prepare --workers 0"),
                ("kinema evaluate", "kinema evaluate --workers 0"),
            ],
        )


def test_what_the_check_finds(tmp_path, monkeypatch, put):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        put(Path(f"videos/run/{name}.mp4"))
    shutil.copy("videos/run/a.mp4", "videos/copy.mp4")
    Path("videos/empty.mp4").touch()
    rows = (
        "run/a.mp4,r,",
        r"run\a.mp4,r,",
        "gone.mp4,r,",
        "empty.mp4,r,",
        "run/b.mp4,r,20",
        "run/a.mp4,r,",
    )
    Path("train.csv").write_text("\n".join(["path,label,frames", *rows, "copy.mp4,r,"]))
    said = []
    for more in ((), ("--min-frames", "16")):
        words = ("data", "check", "train.csv", "--root", "videos", "--json", *more)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1
        said += [row["reason"] for row in json.loads(result.stdout)["bad"]]
    table = PAGE.text.split("## What `kinema data check` finds")[1].split("##")[0]
    reasons = re.findall(r"^\| .* \| `([^`]+)` \|$", table, flags=re.MULTILINE)
    assert len(reasons) == 7
    assert set(reasons) <= set(said), said


def test_a_folder_of_two_kinds_of_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("frames/run/a")
    folder.mkdir(parents=True)
    for number in range(12):
        for suffix in ("jpg", "png"):
            Image.new("RGB", (48, 36)).save(folder / f"{number}.{suffix}")
    with pytest.raises(UnreadableVideoError) as error:
        open_source(folder)
    assert f"`{error.value}`" in PAGE.text


def test_mirrored_names_are_those_of_the_table():
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", PAGE.text, flags=re.MULTILINE)
    assert len(rows) == 6
    for name, mirrored in rows:
        assert (mirrored_class_name(name) or name) == mirrored
