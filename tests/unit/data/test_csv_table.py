"""CSV files as other tools leave them, and what is written read back."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.data.annotations import read_annotations, write_csv
from kinema.data.classes import class_list_text, read_class_names
from kinema.errors import AnnotationError
from kinema.values import Annotations, Sample

RUN, JUMP = Sample("a.mp4", 1), Sample("b.mp4", 0)
READ = {
    "empty rows of Excel": ("path,label\r\na.mp4,run\r\nb.mp4,jump\r\n,\r\n,\r\n", [RUN, JUMP]),
    "blank rows": ("\n\npath,label\n\na.mp4,run\n  \nb.mp4,jump\n\n", [RUN, JUMP]),
    "sep": ("sep=;\r\npath;label\r\na.mp4;run\r\nb.mp4;jump\r\n", [RUN, JUMP]),
    "sep in capitals": ("\ufeffSEP=;\npath;label\na.mp4;run\nb.mp4;jump", [RUN, JUMP]),
    "sep, saved again": ("sep=;,\npath;label\na.mp4;run\nb.mp4;jump", [RUN, JUMP]),
    "sep of a tab": ("sep=\t\npath\tlabel\na.mp4\trun\nb.mp4\tjump", [RUN, JUMP]),
    "sep, quoted": ('"sep=;"\r\npath;label\r\na.mp4;run\r\nb.mp4;jump', [RUN, JUMP]),
    "empty columns": ("path,label,,,\na.mp4,run,,,\nb.mp4,jump\n,,,,\n", [RUN, JUMP]),
    "an empty column inside": ("path,,,label\na.mp4,,x,run\nb.mp4,,,jump\n", [RUN, JUMP]),
    "capitals": ("Path,LABEL\na.mp4,run\nb.mp4,jump\n", [RUN, JUMP]),
    "old Mac": ("path,label\ra.mp4,run\rb.mp4,jump\r", [RUN, JUMP]),
    "an index of pandas": (",path,label\n0,a.mp4,run\n1,b.mp4,jump\n", [RUN, JUMP]),
    "spaces": ('path , label\na.mp4, run \nb.mp4, "jump"\n', [RUN, JUMP]),
    "quotes everywhere": ('"path","label"\n"a.mp4","run"\n"b.mp4" , "jump"\n', [RUN, JUMP]),
    "a quoted delimiter": ('path,label\na.mp4,"run"\n"b,c.mp4",jump', [RUN, Sample("b,c.mp4", 0)]),
    "a line break": ('path,label\n"a\nb.mp4",run\nb.mp4,jump', [Sample("a\nb.mp4", 1), JUMP]),
    "Windows's": ('path,label\r\n"a\r\nb.mp4",run\r\nb.mp4,jump', [Sample("a\r\nb.mp4", 1), JUMP]),
    "other breaks": (
        "path,label\na\u2028\x85\x0c.mp4,run\nb.mp4,jump",
        [Sample("a\u2028\x85\x0c.mp4", 1), JUMP],
    ),
    "quoted spaces": ('path,label\n" a.mp4 ", run\nb.mp4,jump', [Sample(" a.mp4 ", 1), JUMP]),
    "inches": (
        'path,label\n5" a.mp4,run\n"5"" b.mp4",jump',
        [Sample('5" a.mp4', 1), Sample('5" b.mp4', 0)],
    ),
    "whole floats": (
        "path,label,start_frame,frames\na.mp4,run,0.0,6.0\nb.mp4,jump,,\n",
        [Sample("a.mp4", 1, 0, 6), JUMP],
    ),
    "whole floats as labels": (
        "path,label\na.mp4,1.0\nb.mp4,0.0\nc.mp4,\n",
        [RUN, JUMP, Sample("c.mp4", None)],
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_tables_of_other_tools_are_read(tmp_path, kind):
    text, samples = READ[kind]
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    assert list(read_annotations(tmp_path / "a.csv").samples) == samples


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_encodings_of_spreadsheets(tmp_path, encoding):
    """Excel's "Unicode Text" is UTF-16 with tabs."""
    text = "\ufeff" * (encoding == "utf-16-be") + "path\tlabel\r\na.mp4\tläuft\r\nb.mp4\t跳\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read_annotations(tmp_path / "a.csv").class_names == ("läuft", "跳")


def test_no_nul_in_a_list(tmp_path):
    for data in (b"path,label\na.mp4,run\na\0.mp4,run\n", "\n\npath".encode("utf-16-le")):
        (tmp_path / "a.csv").write_bytes(data)
        with pytest.raises(AnnotationError, match=r"a.csv, line [32]: a NUL character. Save the"):
            read_annotations(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,class\na.mp4,run\n",
            "a.csv: there is no column 'label', but 'class'. Rename the column of the classes to "
            "label; without labels, remove the others.",
        ),
        ("id,path,Category\n1,a.mp4,run\n", "no column 'label', but 'id', 'category'. Rename"),
        ("path,label,Label\na.mp4,run,x\n", "line 1: the column 'label' is there twice. Remove"),
        ('path,label\na.mp4,"run\nb.mp4,jump\n', "line 2: a double quote is not closed before ','"),
        ('path,label\n"a"b.mp4,run\n', "line 2: a double quote is not closed before ','"),
        ('path,label\n"a\nb.mp4",run\nc.mp4\n', "line 4: expected 2 fields"),
        ("path,label\n,run\n", "line 2: expected 2 fields"),
        ("sep=;\npath,label\na.mp4,run\n", "line 2: expected a header .* got 'path,label'"),
        ("path,label\na.mp4,-1\nb.mp4,run\n", "line 2: '-1' is no label. Leave it empty for a vid"),
        ("path,label\na.mp4,-1.0\nb.mp4,3\n", "line 2: '-1.0' is no label. Leave it empty"),
        ("path,label\na.mp4,run\nb.mp4,nan\n", "line 3: 'nan' is no label. Leave it empty"),
        ("path,label\na.mp4,run\nb.mp4,#N/A\n", "line 3: '#N/A' is no label. Leave it empty"),
        ("path,label,frames\na.mp4,run,6.5\n", "line 2: frames must be a whole number, got '6.5'"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_fix(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    with pytest.raises(AnnotationError, match=message):
        read_annotations(tmp_path / "a.csv")


def test_a_class_list_may_have_such_a_name(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\na.mp4,N/A\nb.mp4,1\n")
    found = read_annotations(tmp_path / "a.csv", classes=["N/A", "run"])
    assert [sample.label for sample in found.samples] == [0, 1]


# File names and class names hold anything but the null character and halves of surrogate pairs.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
ODD = st.sampled_from([" a", "a ", "\u2028", "a\x85", '"', 'a"b"', "a,b", "a;b", "a\tb", "\r", "7"])
ROWS = st.lists(
    st.builds(
        Sample,
        TEXT | ODD,
        st.integers(0, 2) | st.none(),
        st.integers(0, 10**6),
        st.integers(1, 10**6) | st.none(),
    ),
    min_size=1,
)


@given(rows=ROWS, names=st.lists(TEXT | ODD, min_size=3, max_size=3))
def test_written_rows_are_read_back(tmp_path_factory, rows, names):
    file = tmp_path_factory.getbasetemp() / "round.csv"
    numbered = tuple(f"{number} {name}" for number, name in enumerate(names))
    write_csv(Annotations(tuple(rows), numbered, "made up"), file)
    assert read_annotations(file, classes=numbered).samples == tuple(rows)


@given(names=st.lists(TEXT | ODD, min_size=1))
def test_written_class_lists_are_read_back(tmp_path_factory, names):
    file = tmp_path_factory.getbasetemp() / "round.classes.txt"
    different = [f"{name}{number}{name}" for number, name in enumerate(names)]
    file.write_text(class_list_text(different), encoding="utf-8", newline="")
    assert list(read_class_names(file)) == [unicodedata.normalize("NFC", n) for n in different]
