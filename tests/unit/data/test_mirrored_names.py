"""What a mirror does to class names."""

import json

import pytest

from kinema.data.classes import read_class_names
from kinema.data.mirrored_names import mirror_map, mirrored_class_name


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [
        ("Step_2_Left", "Step_2_Right"),
        ("SwipeLeft", "SwipeRight"),
        ("Swiping Left", "Swiping Right"),
        ("pushing from left to right", "pushing from right to left"),
        ("rotate_cw", "rotate_ccw"),
        ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
        ("turn counter-clockwise", "turn clockwise"),
        ("turn anticlockwise", "turn clockwise"),
        ("LEFT", "RIGHT"),
        ("bright light", None),
        ("upright", None),
        ("leftover food", None),
        ("pulling it right out", None),
        ("zoom_in", None),
    ],
)
def test_directions_are_swapped_and_nothing_else(name, mirrored):
    assert mirrored_class_name(name) == mirrored


def test_a_direction_without_partner_maps_to_nothing():
    assert mirror_map(["jump", "go_left", "go_right", "turn_left"]) == {0: 0, 1: 2, 2: 1, 3: None}


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "pairs"),
    [
        ("jester/jester-v1-labels.csv", 3),
        ("sthv1/label_map.txt", 3),
        ("sthv2/something-something-v2-labels.json", 3),
        ("kinetics400/label_map_k400.txt", 0),
    ],
)
def test_real_class_lists_pair_their_directions(data_dir, file, pairs):
    names = read_class_names(data_dir / "annotations" / file)
    partners = mirror_map(names)
    directed = [label for label in partners if partners[label] != label]
    assert len(directed) == 2 * pairs, [names[label] for label in directed]
    for label in directed:
        assert partners[partners[label]] == label
    json.dumps(partners)
