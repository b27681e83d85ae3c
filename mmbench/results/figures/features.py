"""What `mmbench embed` wrote beside finished runs, as panels of a t-SNE: one seed of each configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmbench.errors import ConfigError, DataError
from mmbench.results.embeddings import Embeddings, embeddings_path, read_embeddings
from mmbench.results.runs import RunRecord

Panels = dict[str, tuple[np.ndarray, np.ndarray]]
PAIRS = (("text", "vision"), ("text", "audio"), ("audio", "vision"))


def embeddings_of(configurations: Mapping[str, Sequence[RunRecord]]) -> dict[str, Embeddings]:
    """The embeddings on test of each configuration's first finished seed that has them.

    Raises:
        DataError: where a configuration has none; names the command that makes them.
    """
    found = {}
    for name, runs in configurations.items():
        done = [run for run in runs if run.status == "done"]
        ready = [run for run in done if embeddings_path(run).is_file()]
        if not ready:
            make = f"make them with: mmbench embed {done[0].folder}" if done else "none of its runs is done"
            raise DataError(f"{name}: there are no embeddings beside its runs; {make}")
        found[name] = read_embeddings(embeddings_path(ready[0]))
    return found


def labelled(found: Mapping[str, Embeddings]) -> Panels:
    """Features with the true labels: of one configuration each modality's encoded features and the fused ones, of several the fused ones."""
    if len(found) > 1:
        return {titled(name, own): (own.fused, own.target) for name, own in found.items()}
    ((_, own),) = found.items()
    panels = {f"{modality} (encoded)": (features, own.target) for modality, features in own.encoded.items()}
    return panels | {"fused": (own.fused, own.target)}


def paired(found: Mapping[str, Embeddings]) -> tuple[Panels, tuple[str, str], str]:
    """Two modalities of one width that all have: text and vision before others, common features before encoded ones; their names and the field's.

    Raises:
        ConfigError: where there are none.
    """
    for field in ("common", "encoded"):
        fields = {titled(name, own): own.modalities(field) for name, own in found.items()}
        for first, second in PAIRS:
            if all(first in own and second in own and own[first].shape == own[second].shape for own in fields.values()):
                return {name: (own[first], own[second]) for name, own in fields.items()}, (first, second), field
    raise ConfigError("no two modalities have features of one width in all of these configurations, so that there are no pairs to draw; see --rows")


def titled(name: str, own: Embeddings) -> str:
    """A panel's name, with the seed."""
    seed = own.about.get("seed")
    return name if seed is None else f"{name}, seed {seed}"
