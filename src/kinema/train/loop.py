"""The training loop: for epoch, for batch: forward, loss, backward, step, log, save, evaluate.

All choices are made before it starts (job.py). Letters: B clips, T frames, H, W, K classes.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch

from kinema.data.loader import TrainBatch
from kinema.errors import KinemaError
from kinema.evaluation.evaluate import evaluate
from kinema.models.saved import save
from kinema.system.interrupts import HeldSignals
from kinema.train.batches import DeviceBatches, network_input
from kinema.train.checkpoint import Sums, save_state
from kinema.train.job import Job, build_job
from kinema.train.journal import Journal, card_lines
from kinema.train.recipe import Recipe
from kinema.train.result import BestResult, EpochResult, EpochTime, TrainResult, total_time
from kinema.values import Report

log = logging.getLogger(__name__)

_Value = TypeVar("_Value")


def train(
    recipe: Recipe,
    *,
    out: str | Path,
    resume: bool = False,
    quiet: bool = False,
    on_epoch: Callable[[Path], object] | None = None,
) -> TrainResult:
    """Trains a network.

    Ctrl-C and SIGTERM take effect at the end of a step, after the training state has been saved,
    or between two validation batches; a second one takes effect at once. With several processes
    they act immediately.

    Args:
        recipe: All settings.
        out: The run folder: a new one, or with `resume` that of an interrupted run.
        resume: Continues from the last saved state; the final weights equal those of an
            uninterrupted run.
        quiet: No progress bar.
        on_epoch: Called with the run folder after every epoch, in the first process.

    Raises:
        KinemaError: a setting does not fit the data, the network or the run folder, a video
            cannot be read, or the loss is no longer finite.
        KeyboardInterrupt: Ctrl-C; `resume` continues after the last step.

    Example:
        `train(load_recipe("recipes/quickstart.toml"), out="runs/first").best.top1`
    """
    job = build_job(recipe, out=Path(out), resume=resume)
    history: list[EpochResult] = []
    signals = HeldSignals()
    with ExitStack() as stack:
        stack.enter_context(job.held)
        if job.fabric.world_size == 1:  # the other processes would wait forever for this one
            stack.enter_context(signals.listening())
        journal = stack.enter_context(
            Journal(job.run, job.position, enabled=job.is_first, quiet=quiet)
        )
        while job.position.epoch < recipe.train.epochs:
            train_epoch(job, journal, signals)
            report = evaluate_epoch(job, journal, signals)
            history.append(finish_epoch(job, journal, report))
            if on_epoch is not None and job.is_first:
                on_epoch(job.run.path)
            signals.obey()
    return _result(job, history)


def train_epoch(job: Job, journal: Journal, signals: HeldSignals) -> None:
    """Trains on the remaining batches of this epoch."""
    position, settings = job.position, job.recipe.train
    # A resumed epoch draws the same order of videos and skips the batches that are done.
    job.loader.set_epoch(position.epoch, skip_batches=position.batches)
    job.model.train()
    for layer in job.frozen:  # model.train() has set them back to training
        layer.eval()
    title = f"epoch {position.epoch + 1}/{settings.epochs}"
    journal.begin(title, total=job.parts_per_epoch, done=position.batches)
    waited_s = 0.0
    left = islice(job.loader, job.parts_per_epoch - position.batches)
    batches = DeviceBatches(left, job.fabric.device)
    for batch in batches:
        started, waited_before_s = time.perf_counter(), batches.wait_s
        cpu_before_s = time.thread_time()
        # With gradient accumulation only every n-th batch ends a step; gradients are synchronized
        # between processes then, not before.
        is_step = (position.batches + 1) % settings.accumulate == 0
        output = forward_backward(job, batch, sync=is_step)
        # The device still computes: copy the next batch now, wait for the loss afterwards.
        batches.load_ahead()
        done = to_sums(job, output)
        if is_step:
            take_step(job)
        position.batches += 1
        done.compute_s = time.perf_counter() - started - (batches.wait_s - waited_before_s)
        done.wait_s, waited_s = batches.wait_s - waited_s, batches.wait_s
        done.cpu_s = time.thread_time() - cpu_before_s
        position.add(done)
        journal.advance(position.batches, loss=done.loss / max(1, done.clips))
        if is_step and position.steps % settings.log_every_steps == 0:
            record_steps(job, journal)
        # After a step the gradients are empty and need not be saved. A held Ctrl-C takes effect
        # here.
        due = position.steps % (settings.checkpoint_every_steps or math.inf) == 0
        if is_step and (due or signals):
            checkpoint(job, journal)
            signals.obey()


@dataclass(frozen=True)
class StepOutput:
    """Mean loss and correct predictions of one forward pass, still on the device, and its clips."""

    loss: torch.Tensor
    hits: torch.Tensor
    clips: int


def forward_backward(job: Job, batch: TrainBatch, *, sync: bool) -> StepOutput:
    """Runs forward, loss and backward on one part of a batch without synchronizing the device.

    With `sync` gradients are averaged over all processes.
    """
    settings, labels_B = job.recipe.train, batch.labels_B
    if len(labels_B) == 0:
        return _empty_step(job)
    # Seeded by position, so that a resumed run repeats dropout and mixing without saved generators.
    torch.manual_seed(step_seed(job))
    clips_BTCHW = network_input(
        batch.clips_BTCHW, job.preprocessing, channels_last=settings.channels_last
    )
    targets = labels_B
    if job.mixing is not None:
        clips_BTCHW, targets = job.mixing(clips_BTCHW, labels_B)
    with job.fabric.no_backward_sync(job.model, enabled=not sync):
        scores_BK = job.model(clips_BTCHW)
        loss = job.loss(scores_BK, targets)
        job.fabric.backward(loss / settings.accumulate)
    hits = (scores_BK.argmax(dim=1) == labels_B).sum()
    return StepOutput(loss.detach(), hits, len(labels_B))


def to_sums(job: Job, output: StepOutput) -> Sums:
    """Converts loss and correct predictions to numbers; synchronizes the device once.

    Raises:
        KinemaError: the loss is not finite; no weight has been updated with it.
    """
    loss, hits = torch.stack([output.loss.float(), output.hits.float()]).tolist()
    if not math.isfinite(loss):
        raise KinemaError(
            f"The loss is {loss} in epoch {job.position.epoch + 1}, step "
            f"{job.position.steps + 1}, at a learning rate of {job.lr:g}. Lower optimizer.lr, "
            "lengthen schedule.warmup_epochs or set train.clip_norm."
        )
    return Sums(loss=loss * output.clips, correct=hits, clips=output.clips)


def take_step(job: Job) -> None:
    """Steps optimizer, schedule and weight average."""
    clip_norm = job.recipe.train.clip_norm
    if clip_norm is not None:
        job.fabric.clip_gradients(job.model, job.optimizer, max_norm=clip_norm)
    job.position.lr = job.lr
    job.optimizer.step()
    job.optimizer.zero_grad()
    job.state.schedule.step()
    if job.state.ema is not None:
        job.state.ema.update_parameters(job.state.net)
    job.position.steps += 1


def step_seed(job: Job) -> int:
    """Random seed of dropout and mixing for the current batch of this process."""
    place = (job.position.epoch, job.position.batches, job.fabric.global_rank)
    return int(np.random.SeedSequence((job.recipe.train.seed, *place)).generate_state(1)[0])


def evaluate_epoch(job: Job, journal: Journal, signals: HeldSignals) -> Report | None:
    """Validates in the first process, at the recipe's interval and after the last epoch."""
    settings, epoch = job.recipe.evaluation, job.position.epoch + 1
    if epoch % settings.every_epochs and epoch < job.recipe.train.epochs:
        return None
    # Saved before validating, which can take long: a run that is killed in it repeats no step.
    checkpoint(job, journal)
    report = None
    if job.is_first:

        def advance(done: int, _: int) -> None:
            journal.advance(done)
            signals.obey()

        started = time.perf_counter()
        journal.begin(f"validation {epoch}/{job.recipe.train.epochs}", total=len(job.val))
        report = evaluate(
            job.network,
            job.val,
            views=settings.views,
            batch_views=settings.batch_views,
            workers=job.recipe.data.workers,
            unreadable=job.recipe.data.unreadable,
            device=job.fabric.device,
            precision=job.recipe.train.precision,
            progress=advance,
        )
        job.position.train_s += time.perf_counter() - started
        if job.position.best_top1 is None:  # logged once per run
            for video in report.skipped:
                log.warning("%s It is left out.", video.reason)
    job.fabric.barrier()
    return report


def finish_epoch(job: Job, journal: Journal, report: Report | None) -> EpochResult:
    """Saves the networks, logs the epoch and saves the training state."""
    position = job.position
    sums = over_processes(job, position.of_epoch)
    result = EpochResult(
        epoch=position.epoch + 1,
        lr=job.position.lr,
        loss=sums.loss / max(1, sums.clips),
        top1=sums.correct / max(1, sums.clips),
        val_top1=job.fabric.broadcast(report.top1 if report else None),
        skipped=skipped_videos(job),
        val_skipped=len(report.skipped) if report else 0,
        time=EpochTime(
            sums.wait_s,
            sums.compute_s,
            videos=sums.clips,
            workers=job.recipe.data.workers,
            cpu_s=sums.cpu_s if job.fabric.device.type == "cpu" else None,
            threads=torch.get_num_threads(),
        ),
    )
    is_best = position.note_validation(result.val_top1)
    # Networks and log first, the training state last: if the run is killed in between, resuming
    # repeats this and overwrites them.
    if job.is_first:
        keep_networks(job, result, is_best=is_best)
        journal.record_epoch(result, report, step=position.steps)
        log.info("%s", result)
    position.epoch += 1
    position.batches = 0
    position.of_epoch = Sums()
    checkpoint(job, journal)
    return result


def keep_networks(job: Job, result: EpochResult, *, is_best: bool) -> None:
    """Saves this epoch's network as the last one and, with `is_best`, as the best one."""
    keep = job.recipe.train.keep
    card = card_lines(job, result)
    for folder, wanted in (
        (job.run.best, is_best and keep != "last"),
        (job.run.last, keep != "best"),
    ):
        if wanted:
            save(
                job.network,
                folder,
                labels=job.class_names,
                preprocessing=job.preprocessing,
                card=card,
                overwrite=True,
            )


def checkpoint(job: Job, journal: Journal) -> None:
    """Saves the training state."""
    job.position.lines = journal.lines
    positions = _gathered(job, job.position)
    if job.is_first:
        save_state(job.run.state, job.state, *positions)
    job.fabric.barrier()


def record_steps(job: Job, journal: Journal) -> None:
    """Logs the means since the last line."""
    sums = over_processes(job, job.position.of_window)
    steps = job.recipe.train.log_every_steps
    journal.record(
        "train",
        epoch=job.position.epoch + 1,
        step=job.position.steps,
        lr=job.position.lr,
        loss=sums.loss / max(1, sums.clips),
        top1=sums.correct / max(1, sums.clips),
        wait_s=sums.wait_s / steps,
        step_s=sums.compute_s / steps,
        videos_per_s=sums.clips / (sums.compute_s + sums.wait_s),
    )
    job.position.of_window = Sums()


def over_processes(job: Job, sums: Sums) -> Sums:
    """Adds the sums of all processes; the seconds are those of the slowest one."""
    if job.fabric.world_size == 1:
        return replace(sums)
    loss, correct, clips = _reduce(job, "sum", sums.loss, sums.correct, sums.clips)
    compute_s, wait_s, cpu_s = _reduce(job, "max", sums.compute_s, sums.wait_s, sums.cpu_s)
    return Sums(loss, correct, round(clips), compute_s, wait_s, cpu_s)


def skipped_videos(job: Job) -> int:
    """Number of unreadable videos so far, over all processes."""
    paths = {skipped.path for skipped in job.loader.skipped}
    return len(set().union(*_gathered(job, paths)))


def _gathered(job: Job, value: _Value) -> list[_Value]:
    """Gathers a value from each process, by rank."""
    if job.fabric.world_size == 1:
        return [value]
    values = [value] * job.fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def _reduce(job: Job, how: str, *values: float) -> list[float]:
    together = job.fabric.all_reduce(torch.tensor(values, device=job.fabric.device), reduce_op=how)
    return list(cast(torch.Tensor, together).tolist())


def _empty_step(job: Job) -> StepOutput:
    """No video of the batch could be read."""
    if job.fabric.world_size > 1:
        raise KinemaError(
            f"No video of batch {job.position.batches + 1} in epoch {job.position.epoch + 1} could "
            f"be read in process {job.fabric.global_rank}; the others cannot continue without it. "
            "Remove the broken videos from the annotations, or raise train.batch_size."
        )
    return StepOutput(torch.zeros(()), torch.zeros(()), clips=0)


def _result(job: Job, history: list[EpochResult]) -> TrainResult:
    position, time_spent = job.position, total_time([epoch.time for epoch in history])
    best = BestResult(top1=position.best_top1 or 0.0, epoch=position.best_epoch or 0)
    if history and job.is_first:
        log.info("The run was %s.", time_spent)
    return TrainResult(
        run=job.run.path,
        epochs=position.epoch,
        best=best,
        train_s=position.train_s,
        bound=time_spent.bound,
        skipped=history[-1].skipped if history else 0,
        history=tuple(history),
        rank=job.fabric.global_rank,
    )
