"""The table of fuzzing targets of the core: a name, what it is fed with, and what reads it; `fuzz_targets_beyond` has those of data sets and verbs.

A target's function gets a value and a scratch folder. It may end in one of the project's errors; where it does not, what was read must be right.
The hypothesis tests, the long form and atheris (``fuzz_with_atheris.py``) share the table.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import math
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.lib import format as npy

from mmbench import strict_yaml
from mmbench.compose import compose, parse_seeds
from mmbench.data import pickles, torch_files
from mmbench.data.array_files import open_array
from mmbench.data.ids import canonical_id, fingerprint, video_of
from mmbench.data.manifest import load_manifest
from mmbench.errors import DataError, MmbenchError
from mmbench.extraction.config import load_plan
from mmbench.extraction.times import Times, TimesConfig
from mmbench.extraction.words import owners, plain, split_words
from mmbench.files import shipped
from mmbench.plugins import catalogue
from mmbench.reproduction.target import load_target
from mmbench.resolve import load, resolve
from mmbench.results.embeddings import Embeddings, read_diagnostics, read_embeddings, write_embeddings
from mmbench.results.predictions import read_predictions, write_predictions
from mmbench.results.published import load_source
from mmbench.results.rescore import rescore
from mmbench.results.runs import find_runs, read_run
from mmbench.results.status import status_lines
from mmbench.results.tables import build_tables, known_metrics, render
from mmbench.strict_yaml import Document

from .fuzz_strategies import ARRAYS, OPCODES, PLAIN, PROGRAMS, TEXTS, as_json, as_yaml, changed, damaged

Function = Callable[[Any, Path], None]


@dataclass(frozen=True)
class Target:
    """`feed` makes the strategy when it is wanted; `few`: examples in the test suite, where some cost more than others; `needs`: modules."""

    name: str
    feed: Callable[[], st.SearchStrategy[Any]]
    read: Function
    few: int = 60
    errors: tuple[type[Exception], ...] = (MmbenchError,)
    needs: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {}


def target(name: str, feed: Callable[[], st.SearchStrategy[Any]], **options: Any) -> Callable[[Function], Function]:
    """Register the function that reads what `feed` makes."""

    def register(function: Function) -> Function:
        assert name not in TARGETS
        TARGETS[name] = Target(name, feed, function, **options)
        return function

    return register


def put(folder: Path, name: str, content: bytes | str) -> Path:
    """Write a file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def same(a: Any, b: Any) -> bool:
    """Equal values of equal types, NaN equal to NaN."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")
    if isinstance(a, (list, tuple)) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and (a == b or (a != a and b != b))


# YAML and configs -----------------------------------------------------------------------------------------------------------------

_YAML_WORDS = [
    word.encode()
    for word in ("&a", "*a", "<<: ", "!!int x", "!!float ", "!!str ", "? ", ": ", "- ", "---\n", "...", "|\n", ">-\n", "{", "}", "[", "]", "#")
]
_YAML_WORDS += [
    b"\xff",
    b"\xef\xbb\xbf",
    b"\t",
    b"\r",
    b'"\\ud800"',
    b'"\\x00"',
    b"'",
    b'"',
    b".NAN",
    b"-.INF",
    b"0x" + b"f" * 4000,
    b"9" * 5000,
    b"[" * 3000,
    b"%YAML 9.9\n",
]
_CONFIGS = (
    "quickstart",
    "decalign_mosi",
    "misa_bert_mosi",
    "slad_features_mosi",
    "decalign_iemocap",
    "lmf_mosi",
    "decalign_ablation",
    "slad_temperature_topk",
)


def _files(*globs: str) -> list[Path]:
    return sorted(path for glob in globs for path in shipped("configs").parent.glob(glob))


def _trees(*globs: str) -> list[Any]:
    return [strict_yaml.load(path) for path in _files(*globs)]


def _configs() -> list[Any]:
    return [strict_yaml.load(shipped("configs") / f"{name}.yaml") for name in _CONFIGS]


def _whole_configs() -> list[Any]:
    return [compose(shipped("configs") / f"{name}.yaml").value for name in _CONFIGS]


@target(
    "YAML text",
    lambda: damaged([path.read_bytes() for path in _files("configs/*.yaml", "published/slad.yaml")] + [b"a: 1", b""], _YAML_WORDS),
    few=40,
)
def yaml_text(content: bytes, folder: Path) -> None:
    document = strict_yaml.load_document(put(folder, "a.yaml", content))
    str(document.mark(("a", 0)))
    with contextlib.suppress(UnicodeEncodeError):  # half of a pair, which no file can hold
        assert same(strict_yaml.parse(strict_yaml.dump(document.value), "again").value, document.value)


@target("configs", lambda: changed(_whole_configs() + _configs()).map(as_yaml), few=50)
def configs(content: bytes, folder: Path) -> None:
    for cell in load(put(folder, "a.yaml", content))[:2]:
        again = resolve(Document(strict_yaml.parse(strict_yaml.dump(cell.to_dict()), "again").value, {}), catalogue())
        assert again.fingerprint("data") == cell.fingerprint("data")
        assert again.to_dict() == cell.to_dict()


def _settings() -> st.SearchStrategy[str]:
    keys = ["training.epochs", "training.optimizer.lr", "losses.0.weight", "losses", "model.name", "data.name", "data.path", "data", "sweep", "seeds"]
    keys += [
        "seeds.0",
        "seeds.--1",
        "seeds.\u00b2",
        "extends",
        "model.encoders.text.name",
        "name",
        "metrics.0",
        "losses.decalign_hom.weight",
        "data.protocol",
        "row",
    ]
    values = [
        "1",
        "null",
        "[]",
        "{}",
        "mosi",
        "iemocap",
        "[1, 2]",
        "1e-3",
        "-1",
        ".nan",
        "{a: {key: seeds, values: [[1], [2]]}}",
        "&a 1",
        "!!int x",
        "[",
        "x: y",
    ]
    key = st.sampled_from(keys) | TEXTS | st.lists(st.sampled_from(keys) | TEXTS, max_size=3).map(".".join)
    return st.builds(
        lambda key, equals, value: key + equals + value, key, st.sampled_from(["=", "=", "=", "", "=="]), st.sampled_from(values) | TEXTS
    )


@target("overrides", lambda: st.tuples(st.sampled_from(_CONFIGS), st.lists(_settings(), max_size=3)), few=50)
def overrides(given: tuple[str, list[str]], folder: Path) -> None:
    for cell in load(given[0], given[1])[:1]:
        cell.fingerprint("data")


@target("extends", lambda: st.lists(st.sampled_from(["a", "b.yaml", "quickstart", "../a", "base", "no"]) | TEXTS | st.just(3), max_size=3), few=40)
def extends(bases: list[Any], folder: Path) -> None:
    put(folder, "b.yaml", as_yaml({"extends": bases[:1], "seeds": [1]}))
    load(put(folder, "a.yaml", as_yaml({"extends": bases, "name": "a"})))


@target(
    "ranges of seeds",
    lambda: st.lists(
        st.integers(0, 40).map(str) | st.sampled_from(["1-3", "3-1", "\u00b2", "1-99999999999", "9" * 5000, "-", "1-"]) | TEXTS, max_size=3
    ).map(",".join),
)
def seeds(text: str, folder: Path) -> None:
    found = parse_seeds(text)
    assert found
    assert parse_seeds(",".join(map(str, found))) == found


@target("extraction configs", lambda: changed(_trees("configs/extract/*.yaml")).map(as_yaml), few=30)
def extraction(content: bytes, folder: Path) -> None:
    load_plan(put(folder, "a.yaml", content))


@target(
    "manifests",
    lambda: st.tuples(changed(_trees("datasets_manifest/*.yaml")).map(as_yaml), st.sampled_from([None, "4way_5fold", "x"]), st.none() | TEXTS),
    few=40,
)
def manifests(given: tuple[bytes, str | None, str | None], folder: Path) -> None:
    manifest = load_manifest(put(folder, "a.yaml", given[0]), *given[1:])
    assert manifest.model_validate(manifest.model_dump()) == manifest


@target("published numbers", lambda: changed(_trees("published/*.yaml")).map(as_yaml), few=30)
def published(content: bytes, folder: Path) -> None:
    for score in load_source(put(folder, "a.yaml", content)).scores:
        assert math.isfinite(score.value)
        assert score.sd is None or math.isfinite(score.sd)


@target("targets", lambda: st.tuples(changed(_trees("configs/papers/*/*.yaml")).map(as_yaml), st.sampled_from(["", "", "features", "x"])), few=30)
def targets(given: tuple[bytes, str], folder: Path) -> None:
    found = load_target(str(put(folder, "a.yaml", given[0])), given[1])
    found.printed()
    for name, row in found.config.rows.items():
        if row is not None:
            found.published_of(name, row)


# what a file of a stranger may hold: pickles, torch files, arrays ------------------------------------------------------------------


def _plain_bases() -> list[bytes]:
    content = {
        "train": {"id": ["a$_$1", b"b"], "text": ARRAYS[0], "labels": ARRAYS[8:10]},
        "t": (1, 2.5, None, True),
        "big": ARRAYS[10],
        "words": ARRAYS[7],
    }
    return [pickle.dumps(content, protocol) for protocol in range(6)] + [pickle.dumps(array, protocol) for array in ARRAYS for protocol in (0, 2, 5)]


def _only_data(value: Any) -> None:
    """What came out is data and nothing else; an object array's items too."""
    waiting, seen = [value], 0
    while waiting and seen < 10_000:
        item, seen = waiting.pop(), seen + 1
        assert item is None or isinstance(
            item, (bool, int, float, complex, str, bytes, memoryview, bytearray, np.generic, np.ndarray, np.dtype, list, tuple, dict)
        ), type(item)
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else ()
        waiting += item.ravel().tolist()[:100] if isinstance(item, np.ndarray) and item.dtype == object else ()


@target("pickles, damaged", lambda: damaged(_plain_bases(), OPCODES) | st.binary(max_size=60))
def damaged_pickles(content: bytes, folder: Path) -> None:
    _only_data(pickles.load(put(folder, "a.pkl", content)))


@target("pickles, by grammar", lambda: PROGRAMS, few=150)
def grammar_pickles(content: bytes, folder: Path) -> None:
    _only_data(pickles.load(put(folder, "a.pkl", content)))


@target(
    "pickles, round trip",
    lambda: st.tuples(st.one_of(PLAIN, st.sampled_from(ARRAYS), st.lists(st.sampled_from(ARRAYS), max_size=3)), st.integers(0, 5)),
    errors=(),
)
def whole_pickles(given: tuple[Any, int], folder: Path) -> None:
    found = pickles.load(put(folder, "a.pkl", pickle.dumps(*given)))
    assert same(_bytes(found), _bytes(given[0]))


def _bytes(value: Any) -> Any:
    """The same with bytes for views of a file."""
    if isinstance(value, dict):
        return {key: _bytes(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_bytes, value))
    return bytes(value) if isinstance(value, memoryview) else value


_STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + _STORAGE + b"K\x00(K\x02K\x03t(K\x03K\x01t\x89ccollections\nOrderedDict\n)RtR"
_TORCH_WORDS = [
    *OPCODES,
    _STORAGE,
    _TENSOR,
    b"X\x02\x00\x00\x00abK\x00))\x89)t",
    b"ctorch._utils\n_rebuild_tensor_v2\n(X\x02\x00\x00\x00abK\x00))\x89)tR",
    b"2\x86q\x05",
]


def _zip(pickled: bytes, more: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", np.arange(6, dtype="<f4").tobytes())
    return file.getvalue() + more


def _legacy(pickled: bytes) -> bytes:
    head = [pickle.dumps(item, 2) for item in (torch_files._MAGIC, 1001, {"little_endian": True})]
    return b"".join(head) + pickled + pickle.dumps(["0"], 2) + (6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()


def _torch_feed() -> st.SearchStrategy[bytes]:
    inside = damaged([b"\x80\x02" + _TENSOR + b".", b"\x80\x02" + _TENSOR * 2 + b"\x86."], _TORCH_WORDS) | PROGRAMS
    whole = [_zip(b"\x80\x02" + _TENSOR + b"."), _legacy(b"\x80\x02" + _TENSOR + b".")]
    return st.one_of(inside.map(_zip), inside.map(_legacy), damaged(whole, _TORCH_WORDS))


@target("torch files", _torch_feed, few=100)
def torch_file(content: bytes, folder: Path) -> None:
    _only_data(torch_files.load(put(folder, "a.pt", content)))


def _npy(header: Any, version: int = 1, raw: bytes = bytes(96)) -> bytes:
    text = repr(header) if isinstance(header, dict) else header
    return npy.magic(version, 0) + len(text.encode()).to_bytes(2 if version == 1 else 4, "little") + text.encode() + raw


def _npy_feed() -> st.SearchStrategy[tuple[str, bytes]]:
    whole = [_saved(array) for array in ARRAYS if array.dtype != object]
    kinds = (
        st.sampled_from(
            ["<f4", "f8", "|O", "<U3", "V3", "S0", "f4,,", "(1,2]f4", "(((", ">M8", [("a", "f4")], "?", "", 3, None, "3f4", "{'a': 'f4'}"]
        )
        | TEXTS
    )
    sizes = st.sampled_from([1, 2, 3, 0, -1, -8, 1 << 40, 1 << 62, 1 << 64, True, 1.5, None, "2"])
    headers = st.fixed_dictionaries(
        {"descr": kinds, "fortran_order": st.sampled_from([True, False, 0, None]), "shape": st.lists(sizes, max_size=3).map(tuple) | st.just(3)}
    )
    texts = st.sampled_from(
        [
            "{",
            "",
            "(" * 300,
            "{'a': 1L}",
            "\\",
            "'''",
            "  x\n y\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }",
            "\0",
            "f'{x}'",
            "-" * 9000 + "1",
        ]
    )
    made = st.builds(_npy, headers | texts | TEXTS.map(lambda text: text.encode("utf-8", "replace").decode()), st.sampled_from([1, 2, 3]))
    plain_files = damaged(whole) | made
    return st.one_of(
        plain_files.map(lambda raw: ("a.npy", raw)),
        plain_files.map(lambda raw: ("a.npz", _npz(raw))),
        damaged([_npz(whole[0])]).map(lambda raw: ("a.npz", raw)),
    )


def _saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz(raw: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", raw)
    return file.getvalue()


@target("arrays of NumPy", _npy_feed, few=100)
def arrays(given: tuple[str, bytes], folder: Path) -> None:
    try:
        found = open_array(put(folder, *given))
    except ValueError:  # its promise: the reason, without the file's name
        return
    values = np.asarray(found)
    assert values.shape == found.shape
    assert min(found.shape) > 0
    assert values.dtype.kind in "fiub"


# ids, words and their times ---------------------------------------------------------------------------------------------------------

IDS = st.one_of(
    st.lists(st.sampled_from(["a", "b_", "_", "/", "[", "]", "[0]", "$_$", "0", "012", "F001", " ", "\u3042", "\n"]), max_size=7).map("".join),
    TEXTS,
    st.binary(max_size=6),
    st.integers(),
)


@target("ids", lambda: IDS, few=300, errors=(ValueError,))
def ids(spelling: object, folder: Path) -> None:
    found = canonical_id(spelling)
    assert found
    assert found == found.strip()
    assert canonical_id(found) == found, "not idempotent"
    assert canonical_id(found.encode()) == found
    assert len(fingerprint([found, video_of(found)])) == 64


CLIPS = st.tuples(st.text("abc\u3042\u00e9XYZ01", min_size=1, max_size=5), st.integers(0, 10**6))


@target("ids, spelled in four ways", lambda: st.tuples(CLIPS, CLIPS), errors=())
def spelled(clips: tuple[tuple[str, int], tuple[str, int]], folder: Path) -> None:
    found = [{canonical_id(form.format(*clip)) for form in ("{}$_${}", "{}$_$00{}", "{}[{}]", "{}/{}", "{}_{}")} for clip in clips]
    assert [len(each) for each in found] == [1, 1]
    assert (found[0] == found[1]) == (clips[0] == clips[1])


@target("words of a transcript", lambda: st.text(max_size=30) | TEXTS, errors=())
def words(text: str, folder: Path) -> None:
    found = split_words(text)
    assert found
    assert all(text[start:end] == word for word, start, end in found)
    assert all(a[2] <= b[1] for a, b in itertools.pairwise(found))
    assert [own for own in owners(found, [(start, end) for _, start, end in found]) if own >= 0] == [i for i, (_, a, b) in enumerate(found) if a < b]


_TIMES = b"video_id,clip_id,word,start,end\nv,1,hello,0.0,0.5\nv,1,world,0.5,1e0\nw,2,\xe4\xbd\xa0\xe5\xa5\xbd,0,1\n"
_CSV_WORDS = [
    b",",
    b'"',
    b"\n",
    b"\r\n",
    b"\0",
    b"nan",
    b"inf",
    b"-1",
    b"1_0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"a" * 200_000,
    b"\x1b[31m",
    b"\xe2\x80\xae",
    b'"\n"',
    b"9" * 5000,
    b"1e400",
]


@target("times of words", lambda: damaged([_TIMES], _CSV_WORDS))
def times(content: bytes, folder: Path) -> None:
    table = Times(TimesConfig(file=str(put(folder, "words.csv", content))))
    for clip, text in (("v/1", "Hello, world"), ("w/2", "\u4f60\u597d"), ("x/1", "a")):
        with contextlib.suppress(DataError):
            found = table.align(clip, None, [word for word, *_ in split_words(text) if plain(word)])
            assert np.isfinite(found).all()
            assert (found[:, 0] <= found[:, 1]).all()


# run folders ------------------------------------------------------------------------------------------------------------------------

TRUTH = np.array([-2.0, -1.0, 0.0, 1.0, 1.5, 3.0], np.float32)
NAMES = tuple(f"video{i // 2}/{i}" for i in range(6))
RESULT: dict[str, Any] = {
    "schema_version": 1, "status": "done", "reason": "", "experiment": "demo", "label": "toy-abc", "name": "toy", "model": "toy",
    "losses": [{"name": "cka", "weight": {"cka": 1.0}}],
    "floor": False, "adapters": [{"field": "common", "kind": "trained", "parameters": 12}], "seed": 1, "fingerprint": "abc",
    "data": {"name": "mosi", "title": "CMU-MOSI", "task": "regression", "classes": [], "modalities": ["text"], "simulated": False,
             "fingerprint": "f00d", "metrics": ["mae", "corr"], "splits": {"train": {"size": 9}, "valid": {"size": 6}, "test": {"size": 6}}},
    "metrics": {"valid": {"mae": 1.0, "corr": 0.5}, "test": {"mae": 1.0, "corr": None}}, "collapsed": False,
    "selection": {"metric": "mae", "value": 1.0, "epoch": 3}, "gradients": {"task": 1.0}, "epochs": 5, "parameters": 12345, "seconds": 75.0,
    "peak_memory_mb": 500.0, "environment": {}, "warnings": [],
}  # fmt: skip
_JSON_WORDS = [
    b"1e999",
    b"9" * 400,
    b"9" * 5000,
    b"NaN",
    b"-Infinity",
    b"null",
    b"[" * 3000,
    b'"\\ud800"',
    b"\xff",
    b"{}",
    b"true",
    b'"test": {}, ',
    b"1e308",
]


def _run(folder: Path, result: bytes) -> Path:
    run = folder / "demo" / "toy-abc" / "seed-1"
    put(run, "config.yaml", "name: demo\ndata:\n  part: null\n")
    put(run, "result.json", result)
    write_predictions(run / "predictions.csv.gz", {split: (NAMES, TRUTH, TRUTH * np.float32(0.5)) for split in ("valid", "test")})
    return run


@target("result.json", lambda: changed([RESULT]).map(as_json) | damaged([as_json(RESULT)], _JSON_WORDS), few=40)
def results(content: bytes, folder: Path) -> None:
    _run(folder, content)
    records = find_runs(folder)
    list(status_lines(records))
    for record in records:
        if record.status == "done":
            rescore(record, known_metrics([record]))
    for form in ("plain", "csv", "json", "latex", "html", "github"):
        render(build_tables(records, draws=100), form)


_EPOCHS = b"".join(
    as_json({"epoch": n, "train": {"task": 0.5 / n, "gradient.task": 1.0}, "valid": {"mae": 1.0, "corr": None}, "seconds": 0.1}) + b"\n"
    for n in (1, 2, 3)
)


@target(
    "epochs.jsonl",
    lambda: (
        damaged([_EPOCHS], [*_JSON_WORDS, b"\n", b"\xe2\x80\xa8"])
        | st.lists(changed([json.loads(_EPOCHS.splitlines()[0])]).map(as_json), max_size=3).map(b"\n".join)
    ),
    needs=("matplotlib",),
)
def epochs(content: bytes, folder: Path) -> None:
    from mmbench.results.figures.epochs import read_epochs, series, terms_of

    put(folder / "seed-1", "epochs.jsonl", content)
    record = read_run(folder / "seed-1")
    found = read_epochs(record)
    terms_of(record, found)
    steps, values = series(found, "train.task")
    assert len(steps) == len(values) == len(found)
    assert not np.isinf(values).any()


def _predictions(text: bytes) -> bytes:
    return gzip.compress(text, 1, mtime=0)


_REGRESSION = b"split,id,target,prediction\ntest,a/1,1,0.5\ntest,a/2,-1.5,nan\nvalid,b/1,3,3\n"
_CLASSES = b"split,id,target,score_0,score_1\ntest,a/1,1,0.5,0.25\ntest,a/2,0,1,-1\n"


@target("predictions.csv.gz", lambda: damaged([_REGRESSION, _CLASSES], _CSV_WORDS).map(_predictions) | damaged([_predictions(_REGRESSION)]))
def predictions(content: bytes, folder: Path) -> None:
    classes = {"classes": ["low", "high"], "task": "classification", "metrics": ["wacc", "waf1"]}
    for split, (names, target_, prediction) in read_predictions(put(folder, "predictions.csv.gz", content)).items():
        assert len(names) == len(target_) == len(prediction), split
        assert np.isfinite(target_).all(), split
    for data in (RESULT["data"], {**RESULT["data"], **classes}):
        run = _run(folder, as_json({**RESULT, "data": data}))
        put(run, "predictions.csv.gz", content)
        rescore(read_run(run), known_metrics([read_run(run)]))


FLOATS = st.floats(width=32)
SHOWN = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=6)
"""What an id may be made of."""


@target("predictions, round trip", lambda: st.lists(st.tuples(SHOWN, FLOATS.filter(math.isfinite), FLOATS), min_size=1, max_size=5), errors=())
def whole_predictions(rows: list[tuple[str, float, float]], folder: Path) -> None:
    names, truth, guess = (tuple(column) for column in zip(*rows, strict=True))
    write_predictions(folder / "p.csv.gz", {"test": (names, np.array(truth, np.float32), np.array(guess, np.float32))})
    found = read_predictions(folder / "p.csv.gz")["test"]
    assert found[0] == names
    assert same(found[1], np.array(truth, np.float32))
    assert same(found[2], np.array(guess, np.float32))


def _embedded(folder: Path) -> bytes:
    about = {"experiment": "demo", "split": "test", "simulated": False}
    write_embeddings(folder / "e.npz", Embeddings(NAMES, TRUTH, TRUTH, TRUTH[:, None], {"text": TRUTH[:, None]}, about=about))
    return (folder / "e.npz").read_bytes()


def _embeddings_feed() -> st.SearchStrategy[Any]:
    array = st.sampled_from(
        [
            *ARRAYS[:7],
            TRUTH,
            TRUTH[:, None],
            TRUTH * np.nan,
            np.array(NAMES),
            np.array("{}"),
            np.array("[]"),
            np.array("[" * 3000),
            np.array('{"a": 1}'),
        ]
    )
    names = st.sampled_from(["ids", "target", "prediction", "fused", "about", "encoded/text", "common/", "x"])
    return st.one_of(st.dictionaries(names, array, max_size=8), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4))


@target("embeddings", _embeddings_feed)
def embeddings(given: Any, folder: Path) -> None:
    content = bytearray(_embedded(folder))
    if isinstance(given, dict):
        (folder / "e.npz").unlink()
        np.savez(folder / "e.npz", **given)
    else:
        for place, value in given:
            content[place % len(content)] = value
        put(folder, "e.npz", bytes(content))
    found = read_embeddings(folder / "e.npz")
    assert len(found.ids) == len(found.target) == len(found.fused)
    assert np.isfinite(found.fused).all()


@target(
    "diagnostics",
    lambda: (
        changed([{"schema_version": 1, "about": {"split": "test"}, "runs": [1.0]}]).map(as_json)
        | damaged([b'{"schema_version": 1, "about": {}}'], _JSON_WORDS)
    ),
)
def diagnostics(content: bytes, folder: Path) -> None:
    assert isinstance(read_diagnostics(put(folder, "d.json", content))["about"], dict)
