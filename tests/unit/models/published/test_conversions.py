"""Every entry's network takes a file with its publisher's names and shapes, tensor for tensor."""

import functools
import re

import pytest
import torch

from kinema.models.convert.importer import import_checkpoint
from kinema.models.published.catalog import PublishedNetwork, find_published, list_published

from ....published_files import GOLDENS, OTHER_BACKBONES, official_shapes

CLASSIFIER = re.compile(r"(?:new_fc|\bfc|classifier|fc_cls)\.(?:weight|bias)$")


def form_of(one: PublishedNetwork) -> tuple[str, str, str]:
    """Everything that the tensor names of a file depend on; both MMAction2 have the same."""
    publisher = one.publisher.name.partition(" 0.x")[0].partition(" 1.x")[0]
    return one.model, publisher, str(sorted(one.options.items()))


FORMS = {
    **{
        form_of(find_published(name)): functools.partial(official_shapes, golden)
        for golden, name in GOLDENS.items()
    },
    **{form_of(find_published(name)): state for name, state in OTHER_BACKBONES.items()},
}


def distinct() -> dict[tuple, PublishedNetwork]:
    """An entry of each form and number of frames; others have other rows in the classifier only."""
    return {(form_of(one), one.frames): one for one in list_published()}


def file_of(one: PublishedNetwork) -> dict[str, torch.Tensor]:
    """Names and shapes of its publisher's file, without values."""
    tensors = {}
    for name, tensor in FORMS[form_of(one)]().items():
        shape = list(tensor.shape)
        if CLASSIFIER.search(name):
            shape[0] = one.classes or 339
        elif re.search(r"\.G\.[013]\.", name):  # TANet's global branch holds T and 2 T
            shape = [size * one.frames // 8 if size in (8, 16) else size for size in shape]
        tensors[name] = torch.empty(shape, device="meta")
    return tensors


def test_every_entry_has_a_form():
    assert {form_of(one) for one in list_published()} == set(FORMS)


@pytest.mark.parametrize("one", distinct().values(), ids=lambda one: one.id)
def test_the_network_takes_the_publishers_file(one, tmp_path):
    torch.save({"state_dict": file_of(one)}, tmp_path / "file.pth")
    # Without values: names and shapes decide, and the values of each form are tested elsewhere.
    with torch.device("meta"):
        imported = import_checkpoint(
            tmp_path / "file.pth", model=one.model, frames=one.frames, **one.options
        )
    net = imported.net
    assert (net.name, net.frames, net.classes) == (one.model, one.frames, one.classes or 339)
    assert imported.file_frames in (None, one.frames)
    counted = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    assert sorted(own for _, own in imported.matched) == sorted(counted)
