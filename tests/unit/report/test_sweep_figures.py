"""Accuracy against cost and against an option, from results files."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from kinema.errors import KinemaError, OptionError, UnknownNameError
from kinema.figures.accuracy_cost import cost_points, draw_accuracy_cost, read_times
from kinema.report.sweeps import draw_option, option_points, varied_option
from kinema.sweep.summary import read_summary

from ...sweep_results import write_results


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def bench(folder: Path, models: dict[str, float], *, frames: int = 8, size_px: int = 112) -> Path:
    """A measurement as `kinema bench model` writes it, of batches of four clips."""
    rows = [
        {"model": name, "form": "fused-bf16", "batch": 4, "ms": 4 * ms}
        for name, ms in models.items()
    ]
    settings = {"frames": frames, "size_px": size_px}
    path = folder / "times.json"
    path.write_text(json.dumps({"kind": "model", "settings": settings, "rows": rows}), "utf-8")
    return path


def test_points_have_accuracy_and_cost_of_every_variant(tmp_path):
    document = read_summary(write_results(tmp_path, "motion_networks"))
    points = cost_points([document], test="val")
    assert [p.variant for p in points][:4] == ["TSN", "TSM", "TIM", "TEINet"]
    assert (points[2].top1, points[2].deviation) == (pytest.approx(0.61), pytest.approx(0.01))
    assert (points[2].gmacs, points[2].params, points[2].clip_ms) == (3.0, 12 * 10**6, None)
    one = draw_accuracy_cost(points, test="val")
    times = read_times(bench(tmp_path, {"tsm_resnet18": 7.5, "tsn_resnet18": 7.0}))
    points = cost_points([document], test="moving camera", times=times)
    assert [p.clip_ms for p in points][:3] == [7.0, 7.5, None]
    assert size(draw_accuracy_cost(points, test="val", times=times))[0] > 1.8 * size(one)[0]


def test_several_sweeps_share_the_plot(tmp_path):
    documents = [
        read_summary(write_results(tmp_path / name, name)) for name in ("gte_share", "tei_parts")
    ]
    points = cost_points(documents, test="val")
    assert len({point.sweep for point in points}) == 2
    assert size(draw_accuracy_cost(points, test="val", out=tmp_path / "a.png"))[0] > 400
    assert (tmp_path / "a.png").is_file()


def test_a_variant_with_options_has_no_time_of_its_networks_name(tmp_path):
    document = read_summary(write_results(tmp_path, "tam_kernel"))
    times = read_times(bench(tmp_path, {"tam_resnet18": 9.0}))
    points = cost_points([document], test="val", times=times)
    assert [p.variant for p in points if p.clip_ms is not None] == ["default"]


def test_times_of_other_clips_or_networks_are_refused(tmp_path):
    document = read_summary(write_results(tmp_path, "motion_networks"))
    other = read_times(bench(tmp_path, {"tsm_resnet18": 9.0}, size_px=224))
    message = (
        "8 frames at 224 px, but the sweep 'Networks on the synthetic motion set' has 8 at 112 px. "
        "Measure it: kinema bench model tsn_resnet18 .* --frames 8 --size 112"
    )
    with pytest.raises(OptionError, match=message):
        cost_points([document], test="val", times=other)
    strange = read_times(bench(tmp_path, {"tsm_resnet50": 9.0}))
    with pytest.raises(OptionError, match="times of none of these networks.*It has: tsm_resnet50"):
        cost_points([document], test="val", times=strange)
    with pytest.raises(UnknownNameError, match="no test 'vall'. Did you mean 'val'"):
        cost_points([document], test="vall")


def test_files_that_are_no_measurement(tmp_path):
    path = write_results(tmp_path, "gte_share")
    with pytest.raises(KinemaError, match="is not a measurement of `kinema bench model --out`"):
        read_times(path)
    with pytest.raises(KinemaError, match="missing.json is not a measurement"):
        read_times(tmp_path / "missing.json")
    path = bench(tmp_path, {"tsm_resnet18": 9.0})
    with pytest.raises(UnknownNameError, match="no form 'fused'. Did you mean 'fused-bf16'"):
        read_times(path, "fused")
    document = json.loads(path.read_text("utf-8"))
    document["rows"].append({**document["rows"][0], "form": "eager-32"})
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(OptionError, match="several forms: fused-bf16, eager-32. Name one"):
        read_times(path)
    assert read_times(path, "eager-32").clip_ms == {"tsm_resnet18": 9.0}
    document["rows"][0]["batch"] = 16
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(OptionError, match="several batch sizes: 4, 16. Measure one of them"):
        read_times(path, "eager-32")


def test_the_share_of_gte_is_found_and_ordered(tmp_path):
    document = read_summary(write_results(tmp_path, "gte_share"))
    document["rows"].reverse()
    option = varied_option(document)
    assert option == "model.options.ratio"
    points = option_points(document, option, test="val")
    assert [p.value for p in points] == [0.0625, 0.125, 0.25, 0.5, 0.75]
    assert [p.params for p in points] == [n * 10**6 for n in range(10, 15)]
    assert points[1].top1 == pytest.approx(0.56)
    assert size(draw_option(points, option, title=document["title"], test="val"))[0] > 500


def test_variants_without_a_common_option_stand_by_name(tmp_path):
    document = read_summary(write_results(tmp_path, "gte_ways"))
    assert varied_option(document) is None
    points = option_points(document, None, test="val")
    assert [p.value for p in points] == list(document["variants"])
    assert size(draw_option(points, None, title="$a_title$", test="val"))[0] > 500
    with pytest.raises(UnknownNameError, match="'3D convolution' .* does not set 'model.options"):
        option_points(document, "model.options.conv2d", test="val")
    with pytest.raises(UnknownNameError, match="no test 'x'"):
        option_points(document, None, test="x")


def test_an_option_of_words_is_placed_by_words(tmp_path):
    document = read_summary(write_results(tmp_path, "tam_branches"))
    points = option_points(document, "model.temporal", test="val")
    assert points[1].value == "tam_global"
    assert size(draw_option(points, "model.temporal", title="t", test="val"))[0] > 500
