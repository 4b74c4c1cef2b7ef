"""Fetches published networks, checks them, and writes their state into the catalog.

For machines with internet access: `python scripts/verify_published.py --clips CLIPS`. The folder
CLIPS has a folder per data set with videos named by their classes, such as
CLIPS/kinetics400/juggling balls.mp4. A network is verified if its file has the published hash,
fits the network of the catalog, and has the class of each clip among its five most probable ones.
Without clips of its data set only the whole hash and the size are written.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from kinema.errors import KinemaError
from kinema.models.published.catalog import PublishedNetwork, read_catalog
from kinema.models.published.fetch import fetch
from kinema.models.published.folder import published_folder
from kinema.recognizer import Recognizer

CATALOG = Path(__file__).parents[1] / "src" / "kinema" / "models" / "published" / "catalog.toml"


def main(words: Sequence[str] | None = None) -> int:
    """Verifies the networks that the words choose; returns the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="ids; default: all with an address")
    parser.add_argument("--catalog", type=Path, default=CATALOG)
    parser.add_argument("--clips", type=Path, help="DATA/CLASS.mp4 below this folder")
    chosen = parser.parse_args(words)
    networks = [one for one in read_catalog(chosen.catalog.read_text("utf-8")) if one.urls]
    failures = 0
    for network in networks:
        if chosen.names and not set(chosen.names) & set(network.names):
            continue
        try:
            facts = verify(network, clips_of(network, chosen.clips))
        except KinemaError as error:
            failures += 1
            print(f"{network.id}: FAILED: {error}")
            continue
        # At once, so that an interrupted run loses nothing.
        text = with_facts(chosen.catalog.read_text("utf-8"), network.id, facts)
        chosen.catalog.write_text(text, "utf-8")
        print(f"{network.id}: {facts.get('state', 'hash and size only: no clip of its data')}")
    return failures


def clips_of(network: PublishedNetwork, clips: Path | None) -> list[Path]:
    """Videos of the data set of a network."""
    return [] if clips is None else sorted((clips / network.data).glob("*.*"))


def verify(network: PublishedNetwork, clips: Sequence[Path]) -> dict[str, str | int]:
    """Facts for the catalog.

    Raises:
        KinemaError: the file cannot be fetched, is another one, or a clip is not recognized.
    """
    fetched = fetch(network)
    recognizer = Recognizer.load(published_folder(network))
    for clip in clips:
        top = [entry.name for entry in recognizer.predict(clip, top=5).top]
        if clip.stem not in top:
            raise KinemaError(f"{clip} is not recognized, but as {', '.join(top)}.")
    facts: dict[str, str | int] = {
        "sha256": fetched.sha256,
        "size_bytes": fetched.path.stat().st_size,
    }
    return {**facts, "state": "verified"} if clips else facts


def with_facts(text: str, network_id: str, facts: dict[str, str | int]) -> str:
    """The catalog's text with other facts of one network."""
    start = text.index(f'[[networks]]\nid = "{network_id}"\n')
    end = text.find("\n\n", start)
    entry = text[start:] if end < 0 else text[start:end]
    rest = "" if end < 0 else text[end:]
    entry = entry.rstrip("\n")
    for key, value in facts.items():
        line = f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
        entry, found = re.subn(rf"(?m)^{key} = .*$", line, entry)
        if not found:
            entry += f"\n{line}"
    return text[:start] + entry + (rest or "\n")


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
