"""What stands in two splits: videos, whose utterances are not independent of each other, and samples with the same content under other names.

A sample's own id in two splits is an error of the data, which is refused when they are opened.
"""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np

from mmbench.data.dataset import Dataset, Split
from mmbench.data.ids import video_of


def overlaps(dataset: Dataset, ids_per_split: bool = False) -> list[str]:
    """A sentence for each pair of splits that share videos, and for each that share content; none where nothing is shared.

    `ids_per_split`: ids are unique within a split only, so that equal names of videos say nothing. Content is the same where every modality is,
    frame by frame; samples of nothing but zeros, and those of which only a transcript is known, are not compared.
    """
    found = []
    pairs = [*combinations(dataset.splits, 2)]
    videos = {name: {video_of(each) for each in split.ids} for name, split in dataset.splits.items()}
    for first, second in pairs:
        both = sorted(videos[first] & videos[second])
        if both and not ids_per_split:
            found.append(f"{len(both)} of the {len(videos[second])} videos of {second} are in {first} too, first {both[0]}")
    contents = {name: _contents(split, dataset.modalities) for name, split in dataset.splits.items()}
    for first, second in pairs:
        same = [(contents[first][digest], name) for digest, name in contents[second].items() if digest in contents[first]]
        if same:
            one, other = min(same)
            found.append(f"{len(same)} samples of {second} hold what samples of {first} hold, in every modality; first {other}, as {one}")
    return found


def _contents(split: Split, modalities: tuple[str, ...]) -> dict[bytes, str]:
    """The id of a sample by the digest of what it holds."""
    raw = {name for name in modalities if not split.inputs[name].values.shape[1]}  # a text that is not tokenised yet
    if raw == {*modalities}:
        return {}
    found = {}
    for row, identifier in enumerate(split.ids):
        digest, anything = hashlib.sha256(), False
        for name in modalities:
            part = split.inputs[name]
            values = np.ascontiguousarray(part.values[row][np.asarray(part.mask[row])])
            anything |= bool(values.any())
            digest.update(f"{name} {values.shape} ".encode() + (split.transcripts[row].encode() if name in raw else values.tobytes()))
        if anything:
            found[digest.digest()] = identifier
    return found
