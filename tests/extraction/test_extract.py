"""From a raw folder to data sets, with extractors whose results can be computed by hand."""

from __future__ import annotations

import numpy as np

from mmbench.config import DataConfig
from mmbench.data.load import load_dataset

from .samples import SIZES, make_rows, sound

SOUND = "audio: {name: toy-sound}"


def test_unaligned(extract, tmp_path) -> None:
    outcome = extract(SOUND, "text: {name: toy-text}", "tokens: {name: toy-ids}", "vision: {name: toy-vector}", "max_length: {audio: 7}")
    (written,) = outcome.written
    assert written.store.folder == tmp_path / "out" / "tiny" / "unaligned"
    dataset = load_dataset(DataConfig(name=str(tmp_path / "tiny.yaml"), path=str(written.store.folder)))
    rows = make_rows()
    for split, size in SIZES.items():
        own = [(i, row) for i, row in enumerate(rows) if row["mode"] == split]
        part = dataset.splits[split]
        assert part.ids == tuple(f"{row['video_id']}/{row['clip_id'].lstrip('0')}" for _, row in own)
        assert part.target.tolist() == [float(row["label"]) for _, row in own]
        np.testing.assert_allclose(part.unimodal_targets["text"], [float(row["label_T"]) for _, row in own], rtol=1e-3)
        assert part.transcripts == tuple(row["text"] for _, row in own)
        for n, (i, row) in enumerate(own):
            expected = [[float(byte), float(byte) ** 2] for byte in sound(i)][:7]
            audio = part.inputs["audio"]
            assert audio.values[n][audio.mask[n]].tolist() == expected
            text = part.inputs["text"]
            codes = [-1, *map(ord, row["text"]), -1]
            assert text.values[n][text.mask[n]].tolist() == [[code, place] for place, code in enumerate(codes)]
            assert part.inputs["vision"].values[n].tolist() == [[i, 1, 2]]
            tokens = written.store.arrays[f"{split}/tokens/text"][n][written.store.arrays[f"{split}/tokens_mask/text"][n]]
            assert tokens.tolist() == [1, *map(ord, row["text"]), 2]
        assert len(part) == size
    assert dataset.record["split_status"] == "published"
    assert dataset.record["layout"] == "unaligned"
    assert any("max_length: 5 clips had more frames; the last 15 frames" in warning for warning in dataset.record["warnings"])
