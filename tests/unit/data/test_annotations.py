"""Annotation files of every format, made up and real, and what is wrong with bad ones."""

import json
from pathlib import Path

import pytest

from kinema.data.annotations import FORMATS, read_annotations, register_format, write_csv
from kinema.data.classes import ClassList, class_list_text, read_class_names
from kinema.data.dataset import VideoDataset
from kinema.errors import AnnotationError, OptionError, UnknownNameError
from kinema.train.settings import DataSettings
from kinema.values import Sample

# format, file name, content, class list, expected rows
FILES = [
    ("csv", "a.csv", "path,label\nx.mp4,run\ny.mp4,jump\n", None, [("x.mp4", 1), ("y.mp4", 0)]),
    ("csv", "a.csv", "path,label\nx.mp4,1\ny.mp4,0\n", ("a", "b"), [("x.mp4", 1), ("y.mp4", 0)]),
    ("csv", "a.csv", "label;path;group\nrun;x y.mp4;g0\n", None, [("x y.mp4", 0)]),
    ("csv", "a.csv", "\ufeffpath,label\r\nx.mp4,run\r\n", None, [("x.mp4", 0)]),
    ("csv", "a.csv", "path\nx.mp4\n", ("run",), [("x.mp4", None)]),
    ("video_list", "a.txt", "a/x y.mp4 1\nb.mp4 0\n\n", None, [("a/x y.mp4", 1), ("b.mp4", 0)]),
    ("jester", "a.csv", "9;Thumb Up\n7;Swipe\n", ("Swipe", "Thumb Up"), [("9", 1), ("7", 0)]),
    (
        "sthv1",
        "a.csv",
        "100;Opening something\n101\n",
        ("Opening something",),
        [("100", 0), ("101", None)],
    ),
    (
        "ucf101",
        "t.txt",
        "Run/v_1.avi 2\r\nJump/v.avi 1\r\n",
        ("Jump", "Run"),
        [("Run/v_1.avi", 1), ("Jump/v.avi", 0)],
    ),
    ("ucf101", "t.txt", "Run/v_1.avi\n", ("Jump", "Run"), [("Run/v_1.avi", 1)]),
    (
        "kinetics",
        "k.csv",
        'label,youtube_id,time_start,time_end,split\n"high, jump",abc,3,13,val\n',
        None,
        [("high, jump/abc_000003_000013.mp4", 0)],
    ),
    (
        "kinetics",
        "k.csv",
        "youtube_id,time_start,time_end,split\nabc,3,13,test\n",
        ("a",),
        [("abc_000003_000013.mp4", None)],
    ),
    (
        "sthv2",
        "s.json",
        json.dumps([{"id": "7", "template": "Holding [something]"}, {"id": "8"}]),
        ("Holding something",),
        [("7.webm", 0), ("8.webm", None)],
    ),
    (
        "diving48",
        "d.json",
        json.dumps([{"vid_name": "v", "label": 2, "start_frame": 0, "end_frame": 90}]),
        None,
        [("v.mp4", 2)],
    ),
    (
        "moments_in_time",
        "trainingSet.csv",
        "singing/b 1.mp4,singing,4,0\r\nadult+female/a.mp4,adult+female,3,1\r\n",
        None,
        [("training/singing/b 1.mp4", 1), ("training/adult+female/a.mp4", 0)],
    ),
    (
        "moments_in_time",
        "validationSet.csv",
        "singing/b.mp4,singing,4,0\n\n",
        ("singing", "adult+female"),
        [("validation/singing/b.mp4", 0)],
    ),
]


@pytest.mark.parametrize(("format", "name", "content", "classes", "rows"), FILES)
def test_each_format(tmp_path, format, name, content, classes, rows):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8", newline="")
    found = read_annotations(file, format=format, classes=classes)
    assert [(s.path, s.label) for s in found.samples] == rows
    assert found.source == str(file)


def test_rawframe_lists_may_have_an_offset(tmp_path):
    (tmp_path / "list.txt").write_text("a b 30 2\nc 5 20 0\n")
    found = read_annotations(tmp_path / "list.txt", format="rawframe_list")
    assert found.samples == (Sample("a b", 2, 0, 30), Sample("c", 0, 5, 20))
    assert found.class_names == ("0", "1", "2")


def test_a_csv_can_name_a_part_of_a_video(tmp_path):
    (tmp_path / "a.csv").write_text("path,label,start_frame,frames\nx.mp4,run,10,20\nx.mp4,run,,\n")
    found = read_annotations(tmp_path / "a.csv")
    assert found.samples == (Sample("x.mp4", 0, 10, 20), Sample("x.mp4", 0, 0, None))
    write_csv(found, tmp_path / "b.csv")
    assert read_annotations(tmp_path / "b.csv").samples == found.samples


def test_class_folders(few_videos):
    found = read_annotations(few_videos, format="folders")
    assert found.class_names == ("left", "right")
    assert [s.path for s in found.samples][:2] == ["left/1.mp4", "left/3.mp4"]


def test_hmdb51_splits(tmp_path):
    for name in ("run", "jump"):
        (tmp_path / f"{name}_test_split2.txt").write_text("a.avi 1 \nb.avi 2 \nc.avi 0 \n")
    options = {"format": "hmdb51", "split": 2}
    train = read_annotations(tmp_path, **options)
    test = read_annotations(tmp_path, **options, subset="test")
    assert [(s.path, s.label) for s in train.samples] == [("jump/a.avi", 0), ("run/a.avi", 1)]
    assert [s.path for s in test.samples] == ["jump/b.avi", "run/b.avi"]
    # What is written of each list takes its name.
    assert [Path(rows.source).stem for rows in (train, test)] == ["train_split2", "test_split2"]
    with pytest.raises(AnnotationError, match="files that end in _test_split3.txt"):
        read_annotations(tmp_path, format="hmdb51", split=3)


def test_kinetics_files_are_found_in_the_usual_layouts(tmp_path):
    (tmp_path / "k.csv").write_text("label,youtube_id,time_start,time_end\nhigh jump,ab,1,11\n")
    for place in ("high_jump/ab_000001_000011.mp4", "ab.mp4"):
        root = tmp_path / place.replace("/", "-")
        (root / place).parent.mkdir(parents=True)
        (root / place).touch()
        found = read_annotations(tmp_path / "k.csv", format="kinetics", root=root)
        assert found.samples[0].path == place


@pytest.mark.parametrize(
    ("format", "content", "classes", "message"),
    [
        ("csv", "", None, "line 1: expected a header with the columns path and label"),
        ("csv", "x.mp4,run\n", None, "line 1: expected a header .* got 'x.mp4,run'"),
        ("csv", "path,label\n", None, "holds no videos"),
        (
            "csv",
            "path,label\nx.mp4,jmp\n",
            ("jump", "run"),
            "line 2: 'jmp' is not in the class list. Did you mean 'jump'",
        ),
        ("csv", "path,label\nx.mp4,123456789\n", None, "label 123456789 is too large"),
        ("video_list", "x.mp4 1555555555555\n", None, "line 1: label 1555555555555 is too large"),
        ("video_list", "x.mp4 " + 5000 * "1" + "\n", None, "line 1: label 1{20} is too large"),
        ("rawframe_list", "x " + 5000 * "1" + " 0\n", None, "expected 'folder frames label'"),
        (
            "csv",
            "path,label\nx.mp4,2\n",
            ("jump", "run"),
            "line 2: label 2 is outside the class list, which has 2 classes",
        ),
        (
            "csv",
            "path,label,frames\nx.mp4,run,ten\n",
            None,
            "line 2: frames must be a whole number, got 'ten'",
        ),
        ("csv", "path,label\nx.mp4\n", None, "line 2: expected 2 fields"),
        ("csv", "path,label\nx.mp4,Opening, closing\n", None, "2 fields.*',' in it needs double"),
        ("video_list", "x.mp4\n", None, "line 1: expected 'path label', got 'x.mp4'"),
        ("video_list", "x.mp4 run\n", ("jump",), "line 1: 'run' is not in the class list"),
        ("rawframe_list", "x 5\n", None, "line 1: expected 'folder frames label'"),
        (
            "kinetics",
            "label,youtube_id\na,b\n",
            None,
            "youtube_id, time_start, time_end, got .label,youtube_id",
        ),
        ("jester", "9;Thumb Up\n", None, "names classes by text; give the data set's class list"),
        ("sthv2", "{", ("a",), "is not valid JSON"),
        ("sthv2", "{}", ("a",), "expected a JSON list of objects"),
        ("diving48", "[{}]", None, "entry 0: expected an object with vid_name, label"),
        ("ucf101", "Run/x.avi 3\n", ("Jump", "Run"), "line 1: label 3 does not belong to 'Run'"),
        ("moments_in_time", "a/x.mp4,a,3\n", None, "line 1: expected 'class/video.mp4,class,agre"),
        ("moments_in_time", "a/x.mp4,,3,0\n", None, "line 1: expected .*, got 'a/x.mp4,,3,0'"),
        ("moments_in_time", "a/x.mp4,a,3,x\n", None, "line 1: expected .*, got 'a/x.mp4,a,3,x'"),
        ("moments_in_time", "video,class,yes,no\n", None, "line 1: .* is a header, but this"),
        (
            "moments_in_time",
            "a/x.mp4,a,3,0\njmp/x.mp4,jmp,3,0\n",
            ("jump", "a"),
            "line 2: 'jmp' is not in the class list. Did you mean 'jump'",
        ),
        ("moments_in_time", "a/x.mp4,a,3,0\n", None, "the name of the list does not say which"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, format, content, classes, message):
    file = tmp_path / "bad.txt"
    file.write_text(content)
    with pytest.raises(AnnotationError, match=f"bad.txt.*{message}"):
        read_annotations(file, format=format, classes=classes)


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path):
    with pytest.raises(AnnotationError, match="Annotation file .*none.csv does not exist"):
        read_annotations(tmp_path / "none.csv")
    with pytest.raises(UnknownNameError, match="'kinetic'. Did you mean 'kinetics'"):
        read_annotations(tmp_path, format="kinetic")
    with pytest.raises(AnnotationError, match="Class list .*no.txt does not exist"):
        read_class_names(tmp_path / "no.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", "run\njump\n\n"),
        ("c.txt", "1 run\r\n2 jump\r\n"),
        ("c.txt", "\ufeffrun  \njump"),
        ("c.txt", "run,0\njump,1\n"),
        ("c.txt", "jump,1\r\nrun,0\r\n"),
        ("c.json", '["run", "jump"]'),
        ("c.json", '{"jump": "1", "run": "0"}'),
    ],
)
def test_class_lists(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert read_class_names(tmp_path / name) == ("run", "jump")


@pytest.mark.parametrize(
    "names",
    [
        ("run", "jump"),
        ("1 run", "2 jump"),
        ("1", "2"),
        ("2 a", "b"),
        ("run,0", "jump,1"),
        ("run,1", "jump,0"),
        ("run,1", "jump,2"),
    ],
)
def test_a_written_class_list_reads_back(tmp_path, names):
    (tmp_path / "c.txt").write_text(class_list_text(names), encoding="utf-8")
    assert read_class_names(tmp_path / "c.txt") == names


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", "\n", "is empty"),
        ("c.txt", "run\nrun\n", "names 'run' twice"),
        ("c.json", "3", "expected a JSON list or object"),
        ("c.json", '{"run": "1"}', "labels must count from 0 to 0"),
    ],
)
def test_bad_class_lists_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(AnnotationError, match=f"{name}.*{message}"):
        read_class_names(tmp_path / name)


def test_formats_are_listed():
    assert len(FORMATS) == 12


@pytest.fixture
def moments_format():
    def read_moments(request):
        rows = [line.split(",") for _, line in request.lines()]
        classes = ClassList.given_or_found(request.class_names, {r[1] for r in rows}, request.path)
        samples = [Sample(path, classes.label_of(label, path)) for path, label, *_ in rows]
        return request.annotations(samples, classes)

    register_format("moments", read_moments)
    yield read_moments
    del FORMATS["moments"]


def test_a_registered_format_is_read_and_accepted_by_recipes(tmp_path, moments_format):
    file = tmp_path / "moments.csv"
    file.write_text("a/1.mp4,running,3,0\nb/2.mp4,eating,3,1\n")
    found = read_annotations(file, format="moments")
    assert found.class_names == ("eating", "running")
    assert found.samples == (Sample("a/1.mp4", 1), Sample("b/2.mp4", 0))
    assert DataSettings(format="moments", train=file, val=file).format == "moments"


def test_a_format_is_registered_once(moments_format):
    with pytest.raises(OptionError, match="'moments' exists already"):
        register_format("moments", moments_format)


@pytest.mark.data
@pytest.mark.parametrize(
    ("format", "file", "options", "videos", "classes"),
    [
        ("ucf101", "ucf101/trainlist01.txt", {}, 9537, 101),
        ("ucf101", "ucf101/testlist01.txt", {}, 3783, 101),
        ("ucf101", "ucf101/testlist03.txt", {}, 3696, 101),
        ("hmdb51", "hmdb51", {}, 3570, 51),
        ("hmdb51", "hmdb51", {"split": 3, "subset": "test"}, 1530, 51),
        ("kinetics", "kinetics400/kinetics-400_val.csv", {}, None, 400),
        ("video_list", "kinetics400/paddle_val_small_videos.list", {}, None, None),
        ("rawframe_list", "kinetics400/paddle_val_small_frames.list", {}, None, None),
        (
            "jester",
            "jester/jester-v1-validation.csv",
            {"classes": "jester/jester-v1-labels.csv"},
            14787,
            27,
        ),
        (
            "sthv2",
            "sthv2/sample-train.json",
            {"classes": "sthv2/something-something-v2-labels.json"},
            3,
            174,
        ),
    ],
)
def test_real_files(data_dir, format, file, options, videos, classes):
    folder = data_dir / "annotations"
    if "classes" in options:
        options = {**options, "classes": folder / options["classes"]}
    found = read_annotations(folder / file, format=format, **options)
    assert videos in (None, len(found.samples))
    assert classes in (None, len(found.class_names))
    assert all(sample.label is not None for sample in found.samples)


@pytest.mark.data
def test_the_real_test_list_of_kinetics_has_no_labels(data_dir):
    file = data_dir / "annotations" / "kinetics400" / "kinetics-400_test.csv"
    names = read_class_names(file.with_name("label_map_k400.txt"))
    found = read_annotations(file, format="kinetics", classes=names)
    assert len(found.class_names) == 400
    assert {sample.label for sample in found.samples} == {None}


@pytest.mark.parametrize(
    ("format", "name", "data", "message"),
    [
        ("csv", "a.csv", b"path,label\nx.mp4,r\xffn\n", "a.csv, line 2: not UTF-8 text"),
        (
            "csv",
            "a.csv",
            b"path\n" + 140_000 * b"x",
            "a.csv, line 2: not a valid CSV file, since a field has 140000 characters",
        ),
        ("sthv2", "a.json", 100_000 * b"[", "a.json is not valid JSON"),
        ("diving48", "a.json", b"\xff[]", "a.json, line 1: not UTF-8 text"),
        (
            "kinetics",
            "k.csv",
            b"label,youtube_id,time_start,time_end\nrun,x\n",
            "k.csv, line 2: expected 4 fields",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, format, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AnnotationError, match=message):
        read_annotations(tmp_path / name, format=format, classes=["run"])


def test_a_class_list_with_other_numbers_is_refused(tmp_path):
    (tmp_path / "labels.json").write_text('{"run": "one"}')
    with pytest.raises(AnnotationError, match="labels must count from 0 to 0"):
        read_class_names(tmp_path / "labels.json")


def test_a_folder_in_place_of_a_file_names_the_format(tmp_path):
    with pytest.raises(AnnotationError, match="is a folder, .* use the format 'folders'"):
        read_annotations(tmp_path, format="csv")


@pytest.fixture
def class_folders(tmp_path):
    for name in ("train/run/a.mp4", "train/run/._a.mp4", "train/jump/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_the_folder_above_the_right_one_names_it(class_folders):
    with pytest.raises(AnnotationError, match=r"holds no videos \(folders\)\. .*train does: give"):
        read_annotations(class_folders, format="folders")


def test_an_empty_class_folder_is_told_and_hidden_files_are_none(class_folders, caplog):
    (class_folders / "train" / "sit").mkdir()
    for hidden in (".Trash-1000/c.mp4", "run/.thumbnails/1.jpg"):
        (class_folders / "train" / hidden).parent.mkdir()
        (class_folders / "train" / hidden).touch()
    rows = read_annotations(class_folders / "train", format="folders")
    assert [sample.path for sample in rows.samples] == ["jump/b.mp4", "run/a.mp4"]
    assert rows.class_names == ("jump", "run")
    assert caplog.messages == [f"{class_folders / 'train'}: no videos in sit, so no class."]


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["2023", "2021", "2022"], ("2021", "2022", "2023")),
        (["042", "007"], ("007", "042")),
        ([str(number) for number in range(11)], tuple(str(number) for number in range(11))),
        (["1", "2", "3"], ("1", "2", "3")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["nan", "-1", "1.0"], ("-1", "1.0", "nan")),
    ],
)
def test_names_of_class_folders_may_be_numbers(tmp_path, caplog, folders, names):
    for number, name in enumerate(folders):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{number}.mp4").touch()
    found = read_annotations(tmp_path, format="folders")
    assert found.class_names == names
    assert [sample.path.split("/")[0] for sample in found.samples] == sorted(folders)
    assert [names[sample.label] for sample in found.samples] == sorted(folders)
    assert read_annotations(tmp_path, format="folders", classes=names).samples == found.samples
    assert caplog.messages == []


def test_a_folder_named_by_a_number_is_no_label(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "a.mp4").touch()
    with pytest.raises(AnnotationError, match="'1' is not in the class list. .*2021, 2022"):
        read_annotations(tmp_path, format="folders", classes=["2021", "2022"])


def said_of(tmp_path, caplog, labels, classes=None, row="x{}.mp4,{}", head="path,label\n", **how):
    file = tmp_path / "a.csv"
    file.write_text(head + "".join(row.format(*pair) + "\n" for pair in enumerate(labels)))
    found = read_annotations(file, classes=classes, **how)
    return found.class_names, [s.label for s in found.samples], caplog.messages


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["2022", "2021", "2022"], ("2021", "2022"), [1, 0, 1]),
        (["042", "7", "042"], ("7", "042"), [1, 0, 1]),
        (["9.0", "100.0"], ("9", "100"), [0, 1]),
        (["0", "9", "5"], ("0", "5", "9"), [0, 2, 1]),
    ],
)
def test_numbers_that_leave_most_classes_empty_are_names(tmp_path, caplog, labels, names, numbers):
    found, indices, messages = said_of(tmp_path, caplog, labels)
    assert (found, indices) == (names, numbers)
    most = int(names[-1])
    assert messages == [
        f"{tmp_path / 'a.csv'}: its labels are {len(names)} different numbers up to {most} and are "
        f"taken for names of {len(names)} classes. If they are labels of {most + 1} classes, give "
        "the class list."
    ]
    # The names of a training list number the labels of a validation list.
    assert said_of(tmp_path, caplog, labels[:1], names)[1] == numbers[:1]
    with pytest.raises(AnnotationError, match="line 2: '1' is not in the class list"):
        said_of(tmp_path, caplog, ["1"], names)


@pytest.mark.parametrize("labels", [["0", "1", "2", "3"], ["00", "01", "03", "0"], ["2.0", "0"]])
def test_numbers_from_0_are_labels(tmp_path, caplog, labels):
    names, numbers, messages = said_of(tmp_path, caplog, labels)
    assert numbers == [int(float(label)) for label in labels]
    assert names == tuple(str(number) for number in range(max(numbers) + 1))
    assert messages == []


@pytest.mark.parametrize(
    "how",
    [{}, {"row": "x{}.mp4 {}", "head": "", "format": "video_list"}],
    ids=["csv", "video_list"],
)
def test_labels_from_1_are_said(tmp_path, caplog, how):
    names, numbers, messages = said_of(tmp_path, caplog, ["1", "2", "3"], **how)
    assert (names, numbers) == (("0", "1", "2", "3"), [1, 2, 3])
    assert messages == [
        f"{tmp_path / 'a.csv'}: labels begin at 1, so class 0 has no video. Labels count from 0: "
        "subtract 1, or give the class list."
    ]


def test_numbers_that_a_class_list_holds_are_labels(tmp_path, caplog):
    names = [f"c{number}" for number in range(10)]
    assert said_of(tmp_path, caplog, ["9", "3.0"], names) == (tuple(names), [9, 3], [])


def test_accented_names_are_one_class_in_either_form(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\na.mp4,caf\u00e9\ncafe\u0301.mp4,cafe\u0301\n")
    found = read_annotations(tmp_path / "a.csv")
    assert found.class_names == ("caf\u00e9",)
    assert found.samples == (Sample("a.mp4", 0), Sample("cafe\u0301.mp4", 0))
    for names in (["cafe\u0301"], ["caf\u00e9"]):
        assert read_annotations(tmp_path / "a.csv", classes=names).samples == found.samples
    (tmp_path / "c.txt").write_text("caf\u00e9\ncafe\u0301\n")
    with pytest.raises(AnnotationError, match="names 'caf\u00e9' twice"):
        read_class_names(tmp_path / "c.txt")


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("jester", "video_id;label\n1;Swipe\n", "line 1: 'video_id;label' is a header, but this "),
        ("jester", "video_id,label,frames\n1,Swipe,37\n", "line 1: .* is a header, .* format csv"),
        (
            "sthv2",
            "id,label\n1,a\n",
            "line 1: expected a JSON list, or 'id;label' lines, got 'id,l",
        ),
        ("jester", "1,Swipe\n", "line 1: expected 'id;label', got '1,Swipe'"),
        ("video_list", "path label\na.mp4 1\n", "line 1: 'path label' is a header"),
        ("video_list", "a 1 3\n", "line 1: expected 'path label', got two numbers, 'a 1 3'. Lines"),
        ("video_list", "a.mp4 1 3\n", "got two numbers, .* are the format rawframe_list; a video"),
        ("video_list", "a.mp4 -1\n", "line 1: '-1' is no label. Leave it empty"),
        ("rawframe_list", "a 12 -1\n", "line 1: '-1' is no label. Leave it empty"),
    ],
)
def test_another_kind_of_list_is_named_with_the_fix(tmp_path, format, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(
        AnnotationError, match=f"list.txt, {message}" if "line" in message else message
    ):
        read_annotations(tmp_path / "list.txt", format=format, classes=["Swipe", "Drum", "a", "b"])


def test_a_folder_of_frames_whose_name_ends_in_a_number(tmp_path):
    (tmp_path / "jump 1").mkdir()
    (tmp_path / "list.txt").write_text("jump 1 3\njump\u20282.mp4 0\n")
    found = read_annotations(tmp_path / "list.txt", format="video_list")
    assert found.samples == (Sample("jump 1", 3), Sample("jump\u20282.mp4", 0))


def test_the_answers_of_something_something_are_read(tmp_path):
    (tmp_path / "test-answers.csv").write_text("1420;Holding [something]\n7;Drum, fast\n")
    found = read_annotations(
        tmp_path / "test-answers.csv", format="sthv2", classes=["Drum, fast", "Holding something"]
    )
    assert found.samples == (Sample("1420.webm", 1), Sample("7.webm", 0))


def test_videos_outside_of_class_folders_are_named(tmp_path, caplog):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    said = f"{tmp_path}: 2 videos are not in a class folder, such as a.mp4. The format 'folders' "
    with pytest.raises(AnnotationError, match=said):
        read_annotations(tmp_path, format="folders")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "c.mp4").touch()
    assert len(read_annotations(tmp_path, format="folders").samples) == 1
    assert caplog.messages[0].startswith(said)


@pytest.fixture
def cases(data_dir):
    return data_dir.parent / "cases"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("capitals", [("a.mp4", "run")]),
        ("empty_rows", [("a.mp4", "run"), ("b.mp4", "jump")]),
        ("newline", [("odd\nname.mp4", "run")]),
        ("pandas_float", [("a.mp4", "run"), ("b.mp4", "jump")]),
        ("pandas_label", [("a.mp4", "jump"), ("b.mp4", "run")]),
        ("sep_line", [("a.mp4", "run"), ("b.mp4", "jump")]),
    ],
)
def test_tables_from_the_field_are_read(cases, name, rows):
    folder = cases / "csv_from_excel_pandas"
    found = read_annotations(folder / f"{name}.csv", classes=folder / "classes.txt")
    assert [(s.path, found.class_names[s.label]) for s in found.samples] == rows
    if name == "pandas_float":
        assert [(s.start_frame, s.frames) for s in found.samples] == [(0, 6), (0, None)]


@pytest.mark.data
def test_other_tables_from_the_field(cases):
    folder = cases / "csv_from_excel_pandas"
    found = read_annotations(folder / "space_after_comma.csv")
    assert found.class_names == ("jump, high", "run")
    assert [sample.path for sample in found.samples] == ["a.mp4", "b.mp4"]
    with pytest.raises(AnnotationError, match="there is no column 'label', but 'class'. Rename"):
        read_annotations(folder / "class_column.csv")


@pytest.mark.data
def test_accented_names_from_the_field_are_one_class(cases):
    folder = cases / "unicode_forms"
    train = read_annotations(folder / "t", format="folders")
    val = read_annotations(folder / "v", format="folders", classes=train.class_names)
    assert train.class_names == val.class_names == ("caf\u00e9", "run")
    assert {(s.path, s.label) for s in val.samples} == {("cafe\u0301/c.mp4", 0), ("run/d.mp4", 1)}
    assert read_annotations(folder / "two.csv").class_names == ("caf\u00e9",)
    (row,) = read_annotations(folder / "l.csv").samples
    assert row.path == "t/cafe\u0301/a.mp4"
    with VideoDataset(read_annotations(folder / "l.csv"), folder).open(0) as source:
        assert source.info.frames > 0


def test_numbers_of_a_list_of_numbers_index_names_that_are_numbers(tmp_path, caplog):
    names = ("1", "2", "fist")
    how = {"row": "x{}.mp4 {}", "head": "", "format": "video_list"}
    assert said_of(tmp_path, caplog, ["0", "1", "2"], names, **how)[1] == [0, 1, 2]
    assert said_of(tmp_path, caplog, ["1", "2", "fist"], names)[1] == [0, 1, 2]
    with pytest.raises(AnnotationError, match="line 2: '0' is not in the class list"):
        said_of(tmp_path, caplog, ["0"], names)
