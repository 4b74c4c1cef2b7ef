"""The folder of labels: whole files, nothing mixed, nothing lost."""

import json
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

from kinema.archive.output import RowWriter, open_output, row_schema
from kinema.errors import OptionError

FACTS = {"format": 1, "clips": 1}
SCHEMA = row_schema(features=False)


def rows(*paths: str, error: str | None = None) -> pa.Table:
    top = None if error else [{"label": 1, "name": "b", "prob": 0.5}]
    content = [{"path": path, "top": top, "error": error} for path in paths]
    return pa.Table.from_pylist(content, schema=SCHEMA)


def test_rows_are_gathered_into_files(tmp_path):
    with open_output(tmp_path / "labels", FACTS) as output:
        writer = RowWriter(output, rows=3)
        for number in range(5):
            writer.add(rows(f"{number}.mp4"))
        assert output.done()["path"].to_pylist() == ["0.mp4", "1.mp4", "2.mp4"]
        writer.flush()
        writer.flush()
        assert len(output.done()) == 5
    assert len(list((tmp_path / "labels").glob("*.parquet"))) == 2
    table = pq.read_table(tmp_path / "labels", schema=SCHEMA)
    assert table.column("top")[0][0]["name"].as_py() == "b"


def test_old_rows_do_not_wait_for_new_ones(tmp_path):
    with open_output(tmp_path, FACTS) as output:
        RowWriter(output, rows=100, seconds=0).add(rows("a.mp4"))
        assert output.done().to_pylist() == [{"path": "a.mp4", "failed": False}]


def test_an_unfinished_file_counts_for_nothing(tmp_path):
    with open_output(tmp_path, FACTS) as output:
        output.write("labels-1", rows("a.mp4"))
    half = tmp_path / ".labels-2.parquet.part"
    half.write_bytes((tmp_path / "labels-1.parquet").read_bytes()[:50])
    with open_output(tmp_path, FACTS) as output:
        assert output.done()["path"].to_pylist() == ["a.mp4"]
    assert not half.exists()


def test_failed_videos_can_be_taken_out(tmp_path):
    with open_output(tmp_path, FACTS) as output:
        output.write("1", pa.concat_tables([rows("a.mp4"), rows("b.mp4", error="cut")]))
        output.write("2", rows("c.mp4", error="gone"))
        output.write("3", rows("d.mp4"))
        assert output.done()["failed"].to_pylist() == [False, True, True, False]
        output.drop_failed(pa.array(["a.mp4", "c.mp4"], pa.large_string()))
        assert output.done()["path"].to_pylist() == ["a.mp4", "b.mp4", "d.mp4"]
        assert not (tmp_path / "2.parquet").exists()
        output.drop_failed(pa.array(["b.mp4"], pa.large_string()))
        assert output.done()["path"].to_pylist() == ["a.mp4", "d.mp4"]


def test_labels_of_two_kinds_are_not_mixed(tmp_path):
    with open_output(tmp_path, FACTS) as output:
        output.remember(form="fused")
        output.write("1", rows("a.mp4"))
    with open_output(tmp_path, FACTS) as output:
        assert output.facts["form"] == "fused"
    with (
        pytest.raises(OptionError, match=r"holds labels made with clips 1 \(wanted: 10\)"),
        open_output(tmp_path, {**FACTS, "clips": 10}),
    ):
        pass
    damaged = rows("a.mp4").replace_schema_metadata({"kinema": json.dumps({"format": 1})})
    pq.write_table(damaged, tmp_path / "1.parquet")
    with (
        pytest.raises(OptionError, match=r"settings in .*1.parquet are damaged: 'clips'"),
        open_output(tmp_path, FACTS),
    ):
        pass


def test_polars_and_others_read_the_folder(tmp_path):
    with open_output(tmp_path, FACTS) as output:
        output.write("1", rows("a.mp4", error="cut"))
        output.write("2", pa.concat_tables([rows("b.mp4"), rows("c.mp4")]))
        _check_readers(tmp_path, 3)  # also while the job runs
    _check_readers(tmp_path, 3)
    with open_output(tmp_path, FACTS) as output:
        output.drop_failed(pa.array(["a.mp4"], pa.large_string()))
    _check_readers(tmp_path, 2)


def _check_readers(folder: Path, count: int) -> None:
    found = pl.scan_parquet(folder).select(pl.col("path"), pl.col("top").list.first()).collect()
    assert found.height == count
    assert found["top"].struct.field("name").drop_nulls().to_list() == ["b", "b"]
    assert dataset(folder).count_rows() == count
    assert duckdb.sql(f"SELECT count(*) FROM '{folder}/*.parquet'").fetchall() == [(count,)]


def test_a_folder_of_an_older_version_goes_on(tmp_path):
    for number, path in enumerate(("a.mp4", "b.mp4")):
        pq.write_table(rows(path), tmp_path / f"{number}.parquet")
    old = tmp_path / "_label.json"
    old.write_text(json.dumps({**FACTS, "form": "fused"}))
    with (
        pytest.raises(OptionError, match=r"holds labels made with clips 1 \(wanted: 10\)"),
        open_output(tmp_path, {**FACTS, "clips": 10}),
    ):
        pass
    for _ in range(2):
        with open_output(tmp_path, FACTS) as output:
            assert output.facts == {**FACTS, "form": "fused"}
            assert output.done()["path"].to_pylist() == ["a.mp4", "b.mp4"]
        assert not old.exists()
        assert pl.scan_parquet(tmp_path).collect().height == 2


def test_folders_with_other_things_are_left_alone(tmp_path):
    (tmp_path / "holiday.mp4").touch()
    with (
        pytest.raises(OptionError, match=r"holds no labels \(holiday.mp4\)"),
        open_output(tmp_path, FACTS),
    ):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["holiday.mp4"]
    with (
        pytest.raises(OptionError, match="is not a folder"),
        open_output(tmp_path / "holiday.mp4", FACTS),
    ):
        pass


@pytest.mark.parametrize("place", ["s3://bucket/labels", Path("s3://bucket/labels")])
def test_labels_are_not_written_to_an_address(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(OptionError, match="is an address: .* folder of this machine"),
        open_output(place, FACTS),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_two_jobs_cannot_write_at_once(tmp_path):
    with (
        open_output(tmp_path, FACTS),
        pytest.raises(OptionError, match="Another job is writing"),
        open_output(tmp_path, FACTS),
    ):
        pass


def test_a_damaged_file_is_named(tmp_path):
    with open_output(tmp_path, FACTS) as output:
        (tmp_path / "labels-1.parquet").write_bytes(b"PAR1 nothing")
        with pytest.raises(OptionError, match=r"labels-1.parquet cannot be read .* Remove it"):
            output.done()
