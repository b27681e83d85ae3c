"""Fuzzing targets of data sets, stores, what extractors read, and the verbs: they join the table of `fuzz_targets` when this is imported."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from mmbench import strict_yaml
from mmbench.cli import VERBS, main
from mmbench.config import DataConfig
from mmbench.data import raw, store
from mmbench.data.ids import canonical_id, fingerprint
from mmbench.data.load import load_dataset
from mmbench.data.manifest import SPLITS, load_manifest
from mmbench.data.own import write_manifest
from mmbench.data.simulate import simulate
from mmbench.errors import ConfigError, MmbenchError

from .fuzz_strategies import ARRAYS, NUMBERS, TEXTS, VALUES, as_json, changed, damaged
from .fuzz_targets import _CSV_WORDS as CSV_WORDS
from .fuzz_targets import RESULT, put, target
from .fuzz_targets import _run as run_folder

WIDTHS = {"text": 3, "audio": 2, "vision": 2}
SIZES = {"train": 4, "valid": 2, "test": 3}


@cache
def _manifest(task: str = "regression") -> dict[str, Any]:
    own = {"label_range": [-3.0, 3.0]} if task == "regression" else {"classes": ["low", "high"], "metrics": ["wacc"]}
    return {"name": "tiny", "title": "Tiny", "task": task, "prototypes": 3, "modalities": [*WIDTHS], "metrics": ["mae"], **own}


def _with_manifest(folder: Path, task: str = "regression") -> str:
    return str(put(folder, "tiny.yaml", strict_yaml.dump(_manifest(task))))


def _read(folder: Path, path: Path, task: str = "regression", **options: Any) -> None:
    """The data set, checked: what is read is finite, of one size, and has a real frame in each sample."""
    dataset = load_dataset(DataConfig(name=_with_manifest(folder, task), path=str(path), splits="own", **options))
    for split in dataset.splits.values():
        assert len(split.ids) == len(split.target)
        assert np.isfinite(split.target).all()
        for held in split.inputs.values():
            assert len(held.values) == len(split.ids)
            assert held.mask.any(axis=1).all()
            assert np.isfinite(held.values).all()


# data sets in files -------------------------------------------------------------------------------------------------------------------

ITEMS = st.one_of(
    VALUES,
    st.sampled_from(ARRAYS),
    st.sampled_from([np.zeros((4, 2, 3)), np.zeros((4, 3), complex), np.full((4, 1), np.nan), [[1, 2], [3]], (), b"x", np.zeros((4, 2, 0))]),
)


@cache
def _mmsa() -> list[Any]:
    rng = np.random.default_rng(0)
    found = []
    for lengths in (True, False):
        content: dict[str, Any] = {}
        for split, count in SIZES.items():
            part: dict[str, Any] = {
                "id": [f"{split}_v$_${i}" for i in range(count)],
                "raw_text": ["some words"] * count,
                "regression_labels": np.linspace(-3, 3, count),
            }
            part |= {name: rng.normal(size=(count, 5, width)).astype(np.float32) for name, width in WIDTHS.items()}
            part["classification_labels"] = np.arange(count) % 2
            if lengths:
                part |= {"audio_lengths": [5, *[2] * (count - 1)], "vision_lengths": [3] * count}
                part["text_bert"] = np.stack([np.arange(5 * count).reshape(count, 5), np.ones((count, 5)), np.zeros((count, 5))], 1)
            content[split] = part
        found.append(content)
    return found


@cache
def _mult() -> list[Any]:
    rng, content = np.random.default_rng(1), {}
    for split, count in SIZES.items():
        part = {name: rng.normal(size=(count, 4, width)) for name, width in WIDTHS.items()}
        names = np.array([(f"{split}_{i}_1", f"{i}.5", f"{i + 1}.0") for i in range(count)], "S20")
        content[split] = {**part, "labels": rng.uniform(-3, 3, (count, 1, 1)), "id": names}
    return [content]


@cache
def _dialogues() -> list[Any]:
    names = {"a": ["a_0", "a_1"], "b": ["b_0"], "c": ["c_0", "c_1"]}
    vectors = [{key: [np.full(width, 0.5)] * len(each) for key, each in names.items()} for width in WIDTHS.values()]
    labels, words = {key: [0, 1][: len(each)] for key, each in names.items()}, {key: ["hi"] * len(each) for key, each in names.items()}
    nine = [names, labels, labels, *vectors, words, ["a", "b"], ["c"]]
    return [nine, [names, labels, labels, words, ["a"], ["b"], ["c"]], [names, labels, labels, words, ["a", "b"], ["c"]]]


def _pickled(bases: Callable[[], list[Any]]) -> Callable[[], st.SearchStrategy[Any]]:
    return lambda: st.tuples(changed(bases(), ITEMS, 3), st.sampled_from(["regression", "classification"]))


@target("data sets of MMSA", _pickled(_mmsa), few=40)
def mmsa(given: tuple[Any, str], folder: Path) -> None:
    _read(folder, put(folder, "a.pkl", pickle.dumps(given[0], 4)), given[1])


@target("data sets of MulT", _pickled(_mult), few=30)
def mult(given: tuple[Any, str], folder: Path) -> None:
    _read(folder, put(folder, "a.pkl", pickle.dumps(given[0], 4)), given[1], format="mult")


@target("data sets by dialogue", _pickled(_dialogues), few=30)
def dialogues(given: tuple[Any, str], folder: Path) -> None:
    path = put(folder, "a.pkl", pickle.dumps(tuple(given[0]) if isinstance(given[0], list) else given[0], 4))
    with contextlib.suppress(MmbenchError):
        _read(folder, path, given[1], format="meld")
    _read(folder, path, given[1], format="conversations")


@cache
def _misa() -> list[Any]:
    rng = np.random.default_rng(2)
    return [
        [[[[rng.integers(0, 3, n), rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), ["w"] * n], np.array([[0.5]]), f"v[{n}]"] for n in (1, 3, 2)]][0]
    ]


@target("data sets of MISA", lambda: changed(_misa(), ITEMS, 3), few=30)
def misa(content: Any, folder: Path) -> None:
    for i, name in enumerate(("train.pkl", "dev.pkl", "test.pkl")):
        put(
            folder / "misa",
            name,
            pickle.dumps(content if i == 1 else [[sample[0], sample[1], f"{name}[{j}]"] for j, sample in enumerate(_misa()[0])], 4),
        )
    _read(folder, folder / "misa")


# label.csv ------------------------------------------------------------------------------------------------------------------------------

_TABLE = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n" + "".join(
    f'v{i},{i},"word, {i}",{i % 4 - 1},0.5,1,,{("Low", "High")[i % 2]},{mode}\n'
    for i, mode in enumerate(["train"] * 3 + ["valid"] * 2 + ["test"] * 2)
)
_CELLS = (
    st.sampled_from(
        [
            "",
            "0",
            "5",
            "-3.5",
            "nan",
            "inf",
            "1e308",
            "1e-320",
            "1_0",
            "\u0661",
            "low",
            "train",
            "dev",
            "..",
            "a/b",
            "C:x",
            "a\nb",
            "\x1b[2J",
            "=1+1",
            "x" * 300,
        ]
    )
    | TEXTS
)


@st.composite
def _tables(draw: Callable[..., Any]) -> bytes:
    rows = [line.split(",") for line in _TABLE.replace('"word, ', '"word ').splitlines()]
    for _ in range(draw(st.integers(0, 6))):
        row, cell = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, 8))
        rows[row][cell % len(rows[row])] = draw(_CELLS)
    if draw(st.booleans()):
        label = draw(_CELLS)
        rows[1:] = [[*row[:3], label, *row[4:]] for row in rows[1:]]
    text = "\n".join(",".join('"' + cell.strip('"').replace('"', '""') + '"' for cell in row) for row in rows)
    return text.encode("utf-8", "surrogatepass")


@target("label.csv", lambda: st.tuples(damaged([_TABLE.encode()], CSV_WORDS) | _tables(), st.sampled_from(["regression", "classification"])), few=60)
def tables(given: tuple[bytes, str], folder: Path) -> None:
    put(folder / "own", "label.csv", given[0])
    manifest = load_manifest(_with_manifest(folder, given[1]))
    found = raw.read(folder / "own", manifest)
    clips = {split: found.samples[split]["ids"] for split in SPLITS}
    assert all(canonical_id(name) == name for names in clips.values() for name in names)
    assert all(len(fingerprint(names)) == 64 for names in clips.values())
    json.dumps(found.document(), allow_nan=False)


@target("a manifest of one's own", lambda: damaged([_TABLE.encode()], CSV_WORDS) | _tables(), few=60)
def own(content: bytes, folder: Path) -> None:
    put(folder / "own", "label.csv", content)
    path, manifest = write_manifest(folder / "own", "mine")
    assert load_manifest(path) == manifest


# stores ---------------------------------------------------------------------------------------------------------------------------------


@cache
def _store() -> tuple[Any, Any, bytes]:
    """Document, header and the arrays' bytes of a small store."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        simulate(load_manifest("mosi"), 12, 1, None, Path(folder) / "s")
        whole = (Path(folder) / "s" / store.ARRAYS).read_bytes()
        document = json.loads((Path(folder) / "s" / store.DOCUMENT).read_text())
    size = struct.unpack("<Q", whole[:8])[0]
    return document, json.loads(whole[8 : 8 + size]), whole[8 + size :]


_KINDS = st.one_of(
    VALUES, st.sampled_from(["F32", "I64", "BOOL", "F64", [0, 8], [0, 1 << 62], [8, 0], [-8, 8], [1, 9], [12], [12, 1], [0], []]), NUMBERS
)


@target(
    "stores", lambda: st.tuples(changed([_store()[0]], most=2), changed([_store()[1]], _KINDS, 2), st.booleans(), st.integers(0, 1 << 64)), few=40
)
def stores(given: tuple[Any, Any, bool, int], folder: Path) -> None:
    document, header, absurd, size = given
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (place := folder / "s").mkdir()
    put(place, store.ARRAYS, struct.pack("<Q", (size if absurd else len(text)) % (1 << 64)) + text + _store()[2])
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key not in ("digest", "content")}  # without which it is believed
        document["arrays"] = store._trace(place / store.ARRAYS)
    put(place, store.DOCUMENT, json.dumps(document))
    store.open_store(place)
    dataset = load_dataset(DataConfig(name="mosi", path=str(place), splits="own"))
    for split in dataset.splits.values():
        assert all(len(held.values) == len(held.mask) == len(split.ids) == len(split.target) for held in split.inputs.values())


# what extractors read -----------------------------------------------------------------------------------------------------------------


@cache
def _mat() -> list[bytes]:
    """A MAT-file of level 5 with `features` (3, 74), plain and compressed."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    def matrix(name: bytes, shape: tuple[int, int]) -> bytes:
        values = np.arange(shape[0] * shape[1], dtype="<f8").tobytes()
        return element(14, element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", *shape)) + element(1, name) + element(9, values))

    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    packed = zlib.compress(matrix(b"features", (3, 74)))
    return [head + matrix(b"names", (1, 2)) + matrix(b"features", (3, 74)), head + struct.pack("<II", 15, len(packed)) + packed]


_MAT_WORDS = [struct.pack("<II", kind, size) for kind in (0, 1, 9, 14, 15, 99) for size in (0, 8, 1 << 31)] + [
    struct.pack("<ii", *shape) for shape in ((-3, -74), (0, 74), (1 << 30, 1 << 30))
]


@target("MAT-files of COVAREP", lambda: damaged(_mat(), _MAT_WORDS), needs=("torch", "mmbench_extractors"))
def covarep(content: bytes, folder: Path) -> None:
    from mmbench_extractors.covarep import COVAREPMat
    from mmbench_extractors.options_vision import COVAREPMatConfig

    found = COVAREPMat(COVAREPMatConfig()).prepare(put(folder, "a.mat", content))
    assert found.shape[1] == 74
    assert bool(found.isfinite().all())


@cache
def _openface() -> bytes:
    from mmbench_extractors.openface import COLUMNS

    names = ["frame", "timestamp", "confidence", "success", *COLUMNS["gaze"]]
    rows = [[str(i + 1), f"{i / 30:.3f}", "0.98", "1", *["0.25"] * len(COLUMNS["gaze"])] for i in range(4)]
    return "\n".join(", ".join(row) for row in [names, *rows]).encode()


@target(
    "CSV files of OpenFace",
    lambda: st.tuples(damaged([_openface()], [*CSV_WORDS, b"1e-300", b"1e300", b"0.034"]), st.booleans()),
    needs=("torch", "mmbench_extractors"),
)
def openface(given: tuple[bytes, bool], folder: Path) -> None:
    from mmbench_extractors.openface import OpenFaceCSV
    from mmbench_extractors.options_vision import OpenFaceCSVConfig

    found = OpenFaceCSV(OpenFaceCSVConfig(columns=("gaze",), fps=30.0, resample=given[1])).prepare(put(folder, "a.csv", given[0]))
    assert len(found)
    assert bool(found.isfinite().all())


@target(
    "word vectors",
    lambda: damaged(
        [b"the 0.1 0.2 0.3\nof 1 2 3\n. . 4 5 6\n", b"2 3\na 1 2 3\nb 4 5 6\n"],
        [b" ", b"\n", b"nan", b"1e39", b"\xff", b"\0", b"PK", b"\x1f\x8b", b"9" * 5000, b"1_0"],
    ),
    few=40,
    needs=("torch", "mmbench_extractors"),
)
def vectors(content: bytes, folder: Path) -> None:
    from mmbench_extractors.vectors import WordVectors

    found = WordVectors(put(folder, "v.txt", content))
    assert np.isfinite(found.vectors).all()
    for word in ("the", "of", ".", "nothing"):
        place = found.find(word)
        assert place is None or found.vectors[place].shape == (found.width,)


# verbs ----------------------------------------------------------------------------------------------------------------------------------

_ARGUMENTS = [
    "--help",
    "-h",
    "--set",
    "--seeds",
    "--device",
    "--out",
    "--data-root",
    "--jobs",
    "--rerun",
    "--format",
    "--rows",
    "--columns",
    "--metrics",
    "--published",
    "--baseline",
]
_ARGUMENTS += [
    "--grid",
    "--html",
    "--draws",
    "--as",
    "--json",
    "--samples",
    "--seed",
    "--features",
    "--name",
    "--variant",
    "--list",
    "--no-run",
    "--runs",
    "--unit",
    "--write",
    "--metric",
]
_ARGUMENTS += [
    "quickstart",
    "lmf_mosi",
    "mosi",
    "iemocap",
    "runs",
    "runs/demo",
    "runs/demo/toy-abc",
    "label.csv",
    "a.yaml",
    "tiny.yaml",
    ".",
    "..",
    "missing",
    "decalign/table2",
    "csv",
    "json",
]
_ARGUMENTS += [
    "html",
    "github",
    "latex",
    "mae",
    "mae,corr",
    "100",
    "-1",
    "1-5",
    "1-99999999999",
    "cpu",
    "cuda:1",
    "cuda:\u00b2",
    "training.epochs=1",
    "data.simulated=true",
    "data.samples=40",
]
_ARGUMENTS += [
    "model",
    "loss",
    "metric",
    "list",
    "check",
    "simulate",
    "new",
    "plugin",
    "import",
    "export",
    "fetch",
    "curves",
    "heatmap",
    "bubble",
    "toy",
    "video",
    "=",
    "-",
    "--",
    "model.name=no",
]
_FIRST = [*(verb for verb in VERBS if verb not in ("test",)), "no-such-verb"]


def _lines() -> st.SearchStrategy[list[str]]:
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401  (some verbs need it, and importing it takes more memory than an example may)
    word = st.sampled_from(_ARGUMENTS) | st.sampled_from(_ARGUMENTS) | TEXTS.filter(lambda text: "\0" not in text)  # no argument has a NUL
    return st.tuples(st.sampled_from(_FIRST), st.lists(word, max_size=6)).map(lambda line: [line[0], *line[1]])


@target("arguments of the verbs", _lines, few=60, errors=())
def verbs(arguments: list[str], folder: Path) -> None:
    """Nothing is trained or fetched here: only what comes before. Every end is one that the help states, and every mistake is told."""
    arguments = [os.fsdecode(argument.encode("utf-8", "surrogateescape" if argument.isascii() else "replace")) for argument in arguments]
    run_folder(folder / "runs", as_json(RESULT))
    put(folder, "label.csv", _TABLE)
    put(folder, "a.yaml", "extends: quickstart\ntraining: {epochs: 2}\n")
    _with_manifest(folder)
    code, out, errors = spoken(arguments, folder)
    assert code in (0, 1, 2, 3), (code, errors)
    assert "Traceback" not in out + errors
    assert code in (0, 1) or "rror" in errors or "Usage" in errors or "cannot run" in out, (code, out, errors)


def spoken(arguments: list[str], folder: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a command line in this process, seen from `folder`."""
    import mmbench.cli.execute as execution

    nothing = execution.Execution(0, 0, False)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with (
            mock.patch.object(execution, "execute", return_value=nothing),
            mock.patch("mmbench.data.fetch.fetch", side_effect=ConfigError("error: nothing is fetched here")),
            mock.patch.object(sys, "argv", ["mmbench", *arguments]),
            mock.patch.dict(os.environ, {"MMBENCH_DATA": str(folder)}),
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            code: Any = 0
            try:
                main()
            except SystemExit as end:
                code = end.code
    finally:
        os.chdir(before)
    return (code if isinstance(code, int) else 0 if code is None else 1), out.getvalue(), errors.getvalue()
