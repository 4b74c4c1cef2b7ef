"""The training loop on tiny real videos."""

import json
import logging
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.data.loader import TrainBatch
from kinema.errors import (
    AnnotationError,
    CheckpointError,
    KinemaError,
    MissingExtraError,
    OptionError,
    RecipeError,
    UnreadableVideoError,
)
from kinema.models.saved import load_saved
from kinema.train import loop
from kinema.train.batches import build_mixing
from kinema.train.checkpoint import Sums
from kinema.train.job import build_job, start_fabric
from kinema.train.loop import train
from kinema.train.recipe import Recipe, load_recipe, recipe_from
from kinema.train.result import EpochTime, total_time
from kinema.train.settings import TrainSettings

Tables = dict[str, dict[str, Any]]


def recipe(settings: Tables, *overrides: str) -> Recipe:
    return recipe_from(settings, source="test", overrides=overrides)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_whole_run(settings: Tables, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kinema")
    calls: list[Path] = []
    run = tmp_path / "runs" / "first"
    result = train(recipe(settings, "train.epochs=3"), out=run, quiet=True, on_epoch=calls.append)

    assert result.run == run
    assert result.epochs == len(result.history) == 3
    assert result.rank == 0
    assert calls == [run] * 3
    assert result.best.top1 >= 0.75
    assert result.best.top1 == max(epoch.val_top1 or 0 for epoch in result.history)
    assert result.train_s > 0
    assert "epoch 3: loss" in caplog.text
    assert f"bound by the {result.bound}: " in caplog.text
    assert "% of the time was spent waiting for data" in caplog.text

    written = lines(run)
    assert [line["kind"] for line in written] == ["train", "train", "epoch"] * 3
    assert [line["step"] for line in written if line["kind"] == "train"] == [2, 4, 6, 8, 10, 12]
    last = written[-1]
    assert last["epoch"] == 3
    assert last["skipped"] == 0
    assert last["val_top1"] == result.history[-1].val_top1
    assert {"lr", "loss", "top1", "val_top5", "val_mean_class", "wait_s", "bound"} <= set(last)
    assert {"lr", "loss", "top1", "wait_s", "step_s", "videos_per_s"} <= set(written[0])

    facts = json.loads((run / "run.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["machine"]["cores"] >= 1
    assert load_recipe(run / "recipe.toml") == recipe(settings, "train.epochs=3")
    assert list((run / "tensorboard").iterdir())
    for folder in ("best", "last"):
        saved = load_saved(run / folder)
        assert saved.labels == ("blue", "red")
        assert saved.preprocessing.crop_px == 32
        assert saved.net.frames == 2
    card = (run / "last" / "README.md").read_text()
    assert "- **Training videos**: 8, train.csv\n- **Validation videos**: 8, val.csv" in card
    assert "- **Trained**: 3 of 3 epochs" in card
    assert f"- **Validation top-1**: {100 * last['val_top1']:.2f} % (clips 1, crops 1)" in card


def test_a_network_on_snippets_is_trained_and_saved_with_them(
    settings: Tables, tmp_path: Path
) -> None:
    settings["model"] = {"backbone": "test_resnet", "temporal": "tdn", "frames": 2}
    train(recipe(settings, "train.epochs=1", "train.keep=last"), out=tmp_path / "run", quiet=True)
    saved = load_saved(tmp_path / "run" / "last")
    assert (saved.net.snippet, saved.net.clip_frames) == (5, 10)
    assert (saved.preprocessing.frames, saved.preprocessing.snippet) == (2, 5)


@pytest.mark.parametrize(
    "overrides",
    [
        ("train.accumulate=2", "train.clip_norm=1.0", "train.label_smoothing=0.1"),
        ("train.mixup_alpha=0.2", "train.cutmix_alpha=1.0", "train.batch_size=4"),
        ("train.ema_decay=0.9", "train.norm_layers=freeze_all_but_first", "train.keep=best"),
        ("train.precision=bf16", "train.channels_last=false", "train.keep=last"),
        ("train.activation_checkpointing=true", "train.fused_optimizer=false"),
        ("train.class_weights=balanced", "train.cutmix_alpha=1.0"),
        ("data.workers=1", "optimizer.scale_lr_for_batch=4", "evaluation.crops=3"),
    ],
)
def test_choices_run(settings: Tables, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    result = train(recipe(settings, "train.epochs=1", *overrides), out=tmp_path / "run", quiet=True)
    assert 0 <= result.best.top1 <= 1
    assert result.best.epoch == 1
    kept = {folder for folder in ("best", "last") if (tmp_path / "run" / folder).is_dir()}
    keep = recipe(settings, *overrides).train.keep
    assert kept == ({"best", "last"} if keep == "both" else {keep})


def test_same_seed_gives_the_same_run(settings: Tables, tmp_path: Path) -> None:
    chosen = recipe(settings, "train.epochs=1", "train.mixup_alpha=0.5")
    for name in "ab":
        train(chosen, out=tmp_path / name, quiet=True)
    a, b = (load_saved(tmp_path / name / "last").net.state_dict() for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_checkpointing_changes_no_number(settings: Tables, tmp_path: Path, precision: str) -> None:
    common = ("train.epochs=1", f"train.precision='{precision}'", "train.ema_decay=0.9")
    for name, word in (("plain", "false"), ("thrifty", "true")):
        chosen = recipe(settings, *common, f"train.activation_checkpointing={word}")
        train(chosen, out=tmp_path / name, quiet=True)
    plain, thrifty = (
        torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("plain", "thrifty")
    )
    for part in ("net", "ema"):
        assert plain[part].keys() == thrifty[part].keys()
        assert all(torch.equal(value, thrifty[part][key]) for key, value in plain[part].items())


@pytest.mark.parametrize("fused", [False, True])
def test_the_optimizer_is_fused_by_setting(settings: Tables, tmp_path: Path, fused: bool) -> None:
    word = "auto" if fused else "false"
    chosen = recipe(settings, f"train.fused_optimizer={word}", "train.accelerator=cpu")
    job = build_job(chosen, out=tmp_path / "run", resume=False)
    assert all(bool(g["fused"]) == fused for g in job.state.optimizer.param_groups)


def test_accumulated_parts_make_one_batch(settings: Tables, tmp_path: Path) -> None:
    # Without BatchNorm statistics of the part, four clips in two parts are one batch of four.
    common = ("train.epochs=1", "train.batch_size=4", "model.dropout=0.0", "model.weights=none")
    settings["model"] |= {"backbone": "convnext_atto"}
    del settings["model"]["stages"], settings["model"]["temporal"]
    for name, parts in (("whole", 1), ("parts", 2)):
        train(
            recipe(settings, *common, f"train.accumulate={parts}"), out=tmp_path / name, quiet=True
        )
    whole, parts_ = (
        load_saved(tmp_path / name / "last").net.state_dict() for name in ("whole", "parts")
    )
    for key, value in whole.items():
        torch.testing.assert_close(value, parts_[key], rtol=1e-4, atol=1e-6)
    assert [line["step"] for line in lines(tmp_path / "parts")][-1] == 2


def test_frozen_norm_layers_keep_their_statistics(settings: Tables, tmp_path: Path) -> None:
    chosen = recipe(settings, "train.epochs=1", "train.norm_layers=freeze_all_but_first")
    train(chosen, out=tmp_path / "run", quiet=True)
    net = load_saved(tmp_path / "run" / "last").net
    norms = [m for m in net.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms[0].running_mean is not None
    assert norms[0].running_mean.abs().sum() > 0
    for layer in norms[1:]:
        assert layer.running_mean is not None
        assert layer.running_mean.abs().sum() == 0


def test_validates_at_the_interval_and_at_the_end(settings: Tables, tmp_path: Path) -> None:
    result = train(
        recipe(settings, "train.epochs=3", "evaluation.every_epochs=2"),
        out=tmp_path / "run",
        quiet=True,
    )
    assert [epoch.val_top1 is None for epoch in result.history] == [True, False, False]


def test_loss_that_is_not_finite_stops_with_place_and_rate(
    settings: Tables, tmp_path: Path
) -> None:
    wild = recipe(settings, "optimizer.lr=1e30", "schedule.warmup_epochs=0")
    with pytest.raises(
        KinemaError, match=r"loss is (nan|inf) in epoch 1, step \d, .* rate of \S+e"
    ):
        train(wild, out=tmp_path / "run", quiet=True)


def test_a_used_folder_is_refused(settings: Tables, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=f"run folder {tmp_path} is not empty"):
        train(recipe(settings), out=tmp_path, quiet=True)
    with pytest.raises(OptionError, match="no run to resume in .*it has no recipe.toml"):
        train(recipe(settings), out=tmp_path, resume=True, quiet=True)


def test_a_run_killed_while_it_wrote_its_settings_starts_again(
    settings: Tables, tmp_path: Path
) -> None:
    (tmp_path / ".recipe.toml.part").write_text("[mod")
    train(recipe(settings, "train.epochs=1"), out=tmp_path, quiet=True)
    assert load_recipe(tmp_path / "recipe.toml").train.epochs == 1
    assert not list(tmp_path.glob(".*.part"))


def test_resume_with_other_settings_names_them(settings: Tables, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(settings, "train.epochs=1"), out=run, quiet=True)
    other = recipe(settings, "train.epochs=2", "optimizer.lr=0.5", "data.workers=1")
    with pytest.raises(RecipeError, match=r"; optimizer\.lr, train\.epochs differ from .*toml"):
        train(other, out=run, resume=True, quiet=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_is_still_training_is_not_opened_again(
    settings: Tables, tmp_path: Path, resume: bool
) -> None:
    run, chosen = tmp_path / "run", recipe(settings, "train.epochs=1")
    refused: list[str] = []

    def open_again(_: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        with pytest.raises(OptionError) as raised:
            train(chosen, out=run, resume=True, quiet=True)
        refused.append(str(raised.value))
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    if resume:
        with pytest.raises(KeyboardInterrupt):
            train(chosen, out=run, quiet=True, on_epoch=interrupt)
        (run / "state.pt").unlink()
    train(chosen, out=run, resume=resume, quiet=True, on_epoch=open_again)
    assert refused == [
        f"Another training is writing to {run}. Wait for its end or stop it, or choose another "
        "folder."
    ]
    train(chosen, out=run, resume=True, quiet=True)


def interrupt(_: Path) -> None:
    raise KeyboardInterrupt


def test_a_lock_that_a_killed_run_left_is_in_nobodys_way(settings: Tables, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    train(recipe(settings, "train.epochs=1"), out=tmp_path / "run", quiet=True)


def test_a_run_that_cannot_be_opened_is_free_again(settings: Tables, tmp_path: Path) -> None:
    run, chosen = tmp_path / "run", recipe(settings, "train.epochs=1")
    train(chosen, out=run, quiet=True)
    (run / "state.pt").write_bytes(b"damaged")
    errors = []  # with their tracebacks, which refer to the objects of the run
    for _ in range(2):
        with pytest.raises(CheckpointError, match="is not a readable training state") as raised:
            train(chosen, out=run, resume=True, quiet=True)
        errors.append(raised.value)


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_epochs(settings: Tables, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(settings, "train.epochs=1", "schedule.name=constant"), out=run, quiet=True)
    more = recipe(settings, "train.epochs=2", "schedule.name=constant")
    assert train(more, out=run, resume=True, quiet=True).epochs == 2
    whole = tmp_path / "whole"
    train(more, out=whole, quiet=True)
    a, b = (load_saved(folder / "last").net.state_dict() for folder in (whole, run))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_finished_cosine_run_says_how_to_go_on(settings: Tables, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(settings, "train.epochs=1"), out=run, quiet=True)
    with pytest.raises(RecipeError) as raised:
        train(recipe(settings, "train.epochs=2"), out=run, resume=True, quiet=True)
    assert str(raised.value) == (
        f"The run in {run} was started with train.epochs=1, and its cosine schedule lowers the "
        "learning rate until then. To train on, start a new run from its network: kinema train "
        f"{run}/recipe.toml model.weights={run}/last train.epochs=MORE --out NEW"
    )
    train(
        recipe(settings, "train.epochs=2", f"model.weights={run}/last"),
        out=tmp_path / "new",
        quiet=True,
    )


def test_a_finished_run_is_done_when_resumed(
    settings: Tables, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = recipe(settings, "train.epochs=1", "schedule.name=constant")
    first = train(chosen, out=tmp_path / "run", quiet=True)
    caplog.set_level(logging.INFO, logger="kinema")
    again = train(chosen, out=tmp_path / "run", resume=True, quiet=True)
    assert again.best == first.best
    assert again.history == ()
    assert len(lines(tmp_path / "run")) == 3
    assert (
        "The run is finished, after epoch 1. To train on: kinema train --resume "
        f"{tmp_path / 'run'} train.epochs=MORE"
    ) in caplog.messages


def test_unreadable_video_stops_or_is_counted(
    settings: Tables, tiny_set: Path, tmp_path: Path
) -> None:
    rows = (tiny_set / "train.csv").read_text() + "broken.mp4,red\n"
    (tmp_path / "train.csv").write_text(rows)
    (tiny_set / "broken.mp4").write_bytes(b"not a video")
    settings["data"]["train"] = str(tmp_path / "train.csv")
    settings["train"] |= {"epochs": 1, "batch_size": 3}
    with pytest.raises(UnreadableVideoError, match="broken.mp4"):
        train(recipe(settings), out=tmp_path / "error", quiet=True)
    skipping = recipe(settings, "data.unreadable=skip")
    result = train(skipping, out=tmp_path / "skip", quiet=True)
    assert result.skipped == 1
    assert lines(tmp_path / "skip")[-1]["skipped"] == 1


def test_labels_that_cannot_be_right_stop_the_run(
    settings: Tables, tiny_set: Path, tmp_path: Path
) -> None:
    header, *rows = (tiny_set / "train.csv").read_text().splitlines()
    path, name = rows[0].split(",")[:2]
    (tmp_path / "train.csv").write_text("\n".join([header, *rows]))
    names = sorted({row.split(",")[1] for row in rows})
    (tmp_path / "many.txt").write_text("\n".join([*names, *"abcdefgh"]))
    settings["data"] |= {
        "train": str(tmp_path / "train.csv"),
        "classes": str(tmp_path / "many.txt"),
    }
    message = rf"train\.csv: 8 of {8 + len(names)} classes have no video\. .*empty_classes=allow"
    with pytest.raises(AnnotationError, match=message):
        build_job(recipe(settings), out=tmp_path / "run", resume=False)
    assert not (tmp_path / "run").exists()
    (tmp_path / "train.csv").write_text(f"path,label\n{path},{name}\n")
    with pytest.raises(AnnotationError, match=rf"every label is '{name}' \(1 videos\)"):
        build_job(recipe(settings), out=tmp_path / "run", resume=False)
    allowed = recipe(settings, "data.empty_classes=allow")
    job = build_job(allowed, out=tmp_path / "run", resume=False)
    assert len(job.class_names) == 8 + len(names)


def test_unreadable_validation_videos_are_logged_and_counted(
    settings: Tables, tiny_set: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = (tiny_set / "val.csv").read_text()
    (tmp_path / "val.csv").write_text(rows + "broken.mp4,red\n")
    (tiny_set / "broken.mp4").write_bytes(b"not a video")
    settings["data"]["val"] = str(tmp_path / "val.csv")
    settings["train"]["epochs"] = 2
    result = train(recipe(settings, "data.unreadable=skip"), out=tmp_path / "run", quiet=True)
    assert [epoch.val_skipped for epoch in result.history] == [1, 1]
    assert [line["val_skipped"] for line in lines(tmp_path / "run") if "val_top1" in line] == [1, 1]
    assert len([text for text in caplog.messages if "broken.mp4" in text]) == 1
    card = (tmp_path / "run" / "last" / "README.md").read_text()
    assert f"Validation videos: {len(rows.splitlines()) - 1}," in card.replace("**", "")


def test_video_without_a_label_is_named(settings: Tables, tiny_set: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text((tiny_set / "train.csv").read_text() + "other.mp4,\n")
    settings["data"]["train"] = str(tmp_path / "train.csv")
    with pytest.raises(
        AnnotationError, match=r"train\.csv: 1 of 9 videos have no label, such as other"
    ):
        train(recipe(settings), out=tmp_path / "run", quiet=True)


def test_label_outside_the_training_classes_is_named(
    settings: Tables, tiny_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "val.csv").write_text("path,label\nval_red_0.mp4,reed\n")
    settings["data"]["val"] = str(tmp_path / "val.csv")
    with pytest.raises(AnnotationError, match=r"val\.csv, line 2: 'reed' .* Did you mean 'red'\?"):
        train(recipe(settings), out=tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("module", "package"),
    [("job", "lightning.fabric"), ("journal", "torch.utils.tensorboard.writer")],
)
def test_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    file = Path(loop.__file__).with_name(f"{module}.py")
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[train\]"'):
        runpy.run_path(str(file))


def test_batch_without_a_readable_video_is_passed_over(settings: Tables, tmp_path: Path) -> None:
    job = build_job(recipe(settings, "train.clip_norm=1.0"), out=tmp_path / "run", resume=False)
    before = {name: value.clone() for name, value in job.state.net.state_dict().items()}
    empty = TrainBatch(torch.empty(0, 2, 3, 32, 32, dtype=torch.uint8), torch.empty(0).long())
    assert loop.to_sums(job, loop.forward_backward(job, empty, sync=True)) == Sums()
    loop.take_step(job)
    assert job.position.steps == 1
    after = job.state.net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_too_few_videos_for_a_step(settings: Tables, tmp_path: Path) -> None:
    few = recipe(settings, "train.batch_size=64", "train.accumulate=2")
    with pytest.raises(OptionError, match=r"has 8 videos, fewer than one train\.batch_siz"):
        train(few, out=tmp_path / "run", quiet=True)


def test_batch_must_divide_into_parts() -> None:
    with pytest.raises(OptionError, match=r"batch_size \(10\) must be a multiple of .*\(1 x 4\)"):
        start_fabric(TrainSettings(batch_size=10, accumulate=4))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_device_is_named() -> None:
    with pytest.raises(OptionError, match=r"train\.accelerator = 'cuda'"):
        start_fabric(TrainSettings(accelerator="cuda"))


def test_mixing_blends_clips_and_targets() -> None:
    assert build_mixing(TrainSettings(), classes=3) is None
    mix = build_mixing(TrainSettings(mixup_alpha=0.5), classes=3)
    assert mix is not None
    clips = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 4, 3, 6, 6)
    mixed, targets = mix(clips, torch.tensor([0, 2]))
    assert type(mixed) is torch.Tensor
    assert mixed.shape == clips.shape
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(2), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mixed[0, 0, 0, 0, 0], targets[0, 2], rtol=1e-6, atol=1e-6)


def test_cut_box_is_the_same_in_all_frames() -> None:
    mix = build_mixing(TrainSettings(cutmix_alpha=1.0), classes=3)
    assert mix is not None
    clips = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 4, 3, 32, 32)
    mixed, targets = mix(clips, torch.tensor([0, 2]))
    assert (mixed == mixed[:, :1]).all()
    torch.testing.assert_close(mixed[0, 0, 0].mean(), targets[0, 2], rtol=1e-5, atol=1e-6)


def test_what_bounds_the_speed() -> None:
    fast = EpochTime(wait_s=0.5, compute_s=9.5, videos=50, workers=2)
    slow = EpochTime(wait_s=6.2, compute_s=3.8, videos=50, workers=2)
    assert str(fast) == (
        "bound by the model: 5 % of the time was spent waiting for data, 5.0 videos/s"
    )
    assert str(slow).startswith("bound by the loader: 62 % of the time was spent waiting for data")
    assert "raise data.workers" in str(slow)
    assert "set data.workers above 0" in str(EpochTime(6.0, 4.0, videos=1, workers=0))
    assert EpochTime(4.0, 6.0, videos=1, workers=0).bound == "model"
    assert total_time([fast, slow]).wait_share == pytest.approx(0.335)
    assert total_time([]).videos_per_s == 0


def test_busy_cores_are_not_called_the_model() -> None:
    taken = EpochTime(0.5, 9.5, videos=50, workers=2, cpu_s=2.3, threads=2)
    assert taken.bound == "cores"
    assert str(taken) == (
        "bound by the cores: 5 % of the time was spent waiting for data, 5.0 videos/s; computing "
        "was on a core for 24 % of its time: 2 threads wait for each other, so try "
        "OMP_NUM_THREADS=1"
    )
    alone = EpochTime(0.5, 9.5, videos=50, workers=2, cpu_s=2.3)
    assert str(alone).endswith(": stop other programs or lower data.workers")
    assert EpochTime(0.5, 9.5, videos=50, workers=2, cpu_s=9.0, threads=2).bound == "model"
    assert EpochTime(6.2, 3.8, videos=50, workers=2, cpu_s=1.0).bound == "loader"
    assert total_time([taken, taken]).bound == "cores"
    on_gpu = EpochTime(0.5, 9.5, videos=50, workers=2)
    assert total_time([on_gpu]).bound == on_gpu.bound == "model"
