"""All of an extraction in order: check, find and hash the recordings, extract what the cache lacks, write the data sets."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data import content, raw
from mmbench.data.find import data_root, locate, store_place
from mmbench.data.manifest import SPLITS
from mmbench.data.store import file_digests
from mmbench.errors import DataError
from mmbench.extraction.assemble import Aligned, Clip, Layout, Unaligned, whole
from mmbench.extraction.config import ALIGNER, TOKENS, Plan, options
from mmbench.extraction.media import Listing, digests, text_digest
from mmbench.extraction.pool import work
from mmbench.extraction.progress import Progress
from mmbench.extraction.stages import Extractor, build
from mmbench.extraction.words import split_words
from mmbench.extraction.worker import Task, cannot_write
from mmbench.extraction.write import Written, put, refuse_other, refuse_unwritable
from mmbench.files import write
from mmbench.privacy import shared
from mmbench.results.text import csv_text

VERSION = 1
"""Version of the rules by which a data set is made of what was extracted; another version is another data set."""

FAILURES = "failures.csv"
_PACKAGES = ("mmbench", "numpy", "torch", "torchaudio", "transformers", "tokenizers", "soundfile", "av", "pillow")
_STALE = 86400.0


@dataclass(frozen=True)
class Failure:
    """One clip that could not be extracted. `file`: its recording, where it has one."""

    split: str
    clip: str
    modality: str
    file: str
    reason: str


@dataclass
class Outcome:
    """What came of an extraction; `written` is empty where clips failed and were not to be left out."""

    folder: Path
    extractors: Mapping[str, Extractor]
    clips: list[Clip]
    failures: list[Failure]
    written: list[Written] = field(default_factory=list)
    lengths: dict[str, list[int]] = field(default_factory=dict)


class Extraction:
    """A plan with its raw folder, its clips and its built extractors. ConfigError, DataError: what must be mended before anything is extracted.

    `root`: the folder that --data-root names; `out`: where the data sets go instead. `device`: auto, cpu or cuda.
    """

    def __init__(self, plan: Plan, root: Path | None, out: Path | None, device: str, progress: Progress):
        self.plan, self.progress = plan, progress
        self.folder = locate(plan.data, root, raw=True, advice="")
        if not (self.folder / raw.LABELS).is_file():
            raise DataError(f"{self.folder}: features are extracted from a folder with {raw.LABELS} and recordings, and this is none")
        self.table = raw.read(self.folder, plan.manifest)
        self.labels = file_digests(self.folder / raw.LABELS)["sha256"]
        self.clips = self._read_clips()
        self.extractors = build(plan, self.folder, device)
        self.base = store_place(out or data_root(root), plan.manifest, "unaligned").parent
        self.failures: list[Failure] = []

    def run(self, jobs: int | None, leave_out: bool, replace: bool) -> Outcome:
        """Extract what is missing in the cache and write the data sets. Clips that fail are in the outcome, and in ``failures.csv``."""
        refuse_unwritable(self.base, "--out")
        tasks = self._tasks()
        if self.failures:
            first, count = self.failures[0], len({failure.clip for failure in self.failures})
            fate = "are left out of the data set" if leave_out else "keep the data set from being written (--leave-out-failed: written without them)"
            self.progress.say(
                f"warning: recordings of {count} clips are missing or cannot be read and {fate}; first {first.clip}: {first.modality}: {first.reason}"
            )
        else:
            for name in self._layouts():
                refuse_other(self.base / name, self._digest(name, self.clips), replace)
        self._work(tasks, jobs)
        if ALIGNER in self.extractors:
            trial = self._aligned([])
            for clip in self._kept():
                found = trial.misfit(clip)
                if found:
                    self.failures.append(Failure(clip.split, clip.name, found[0], "", found[1]))
        outcome = Outcome(self.base, self.extractors, self.clips, self.failures)
        self._write_failures()
        if self.failures and not leave_out:
            return outcome
        kept = self._kept()
        empty = [split for split in SPLITS if not any(clip.split == split for clip in kept)]
        if empty:
            raise DataError(f"every clip of {', '.join(empty)} failed, so nothing is left to write; {self.base / FAILURES} says why")
        for name in self._layouts():
            layout = self._aligned(kept) if name == "aligned" else self._unaligned(kept)
            outcome.written.append(self._put(layout, replace))
            if name == "unaligned":
                outcome.lengths = layout.lengths
        return outcome

    # what is to be done

    def _read_clips(self) -> list[Clip]:
        clips, seen = [], set[str]()
        for split in SPLITS:
            samples = self.table.samples[split]
            for name, identifier, transcript in zip(self.table.clips[split], samples["ids"], samples["transcripts"], strict=True):
                if identifier in seen:
                    raise DataError(f"{self.folder / raw.LABELS}: the clip {name} ({identifier}) stands there more than once")
                seen.add(identifier)
                clips.append(Clip(split, name, transcript, split_words(transcript)))
        return clips

    def _layouts(self) -> list[str]:
        return ["unaligned", "aligned"] if ALIGNER in self.extractors else ["unaligned"]

    def _tasks(self) -> list[Task]:
        """One task for each clip and extractor, with its place in the cache; missing recordings become failures."""
        listing, files = Listing(self.folder), dict[tuple[str, str], Path]()
        for key, extractor in self.extractors.items():
            for clip in self._clips_of(key) if extractor.suffixes else ():
                path = listing.find(clip.name, extractor.suffixes, extractor.folder)
                if path is None:
                    place = extractor.folder or "Raw/ and wav/"
                    self._fail(clip, key, None, f"there is no {clip.name} with the ending {', '.join(extractor.suffixes)} in {place}")
                else:
                    files[key, clip.name] = path
        known = digests(self.folder, files.values(), lambda done, total: self.progress("reading recordings", done, total))
        tasks = []
        for number, (key, extractor) in enumerate(self.extractors.items()):
            for clip in self._clips_of(key):
                path = files.get((key, clip.name))
                if extractor.suffixes and path is None:
                    continue
                if path is not None and path not in known:
                    self._fail(clip, key, path, _unreadable(path))
                    continue
                words = tuple(word for word, *_ in clip.words) if key == ALIGNER else ()
                name = known[path] if path is not None else "" if key == ALIGNER else text_digest(clip.transcript)
                if key == ALIGNER:
                    name = hashlib.sha256(json.dumps([clip.name, name, words]).encode()).hexdigest()
                clip.results[key] = extractor.stage.folder / f"{name}.npy"
                tasks.append(Task(number, clip.name, path, clip.transcript, words, clip.results[key]))
        return tasks

    def _clips_of(self, key: str) -> list[Clip]:
        return [clip for clip in self.clips if key != ALIGNER or not clip.wordless]

    def _fail(self, clip: Clip, modality: str, path: Path | None, reason: str) -> None:
        self.failures.append(Failure(clip.split, clip.name, modality, str(path or ""), reason))

    def _kept(self) -> list[Clip]:
        failed = {failure.clip for failure in self.failures}
        return [clip for clip in self.clips if clip.name not in failed]

    # the work

    def _work(self, tasks: list[Task], jobs: int | None) -> None:
        """Carry out the tasks whose results are not in the cache; those on a GPU one after the other."""
        stages = [extractor.stage for extractor in self.extractors.values()]
        extractors = list(self.extractors.values())
        sharing: dict[Path, list[Task]] = {}
        for task in tasks:  # clips of the same content share a result
            sharing.setdefault(task.target, []).append(task)
        for stage in stages:
            _sweep(stage.folder)
        missing = []
        for first, *_ in sharing.values():
            if whole(first.target):
                extractors[first.stage].cached += len(sharing[first.target])
            else:
                missing.append(first)
        most = jobs or len(os.sched_getaffinity(0))
        clips = {clip.name: clip for clip in self.clips}
        for on_gpu in (False, True):
            chosen = [task for task in missing if stages[task.stage].device.startswith("cuda") == on_gpu]
            totals = {number: sum(task.stage == number for task in chosen) for number in range(len(stages))}
            ended = dict.fromkeys(totals, 0)
            last = time.monotonic()
            for task in chosen[:1]:
                self.progress(stages[task.stage].key, 0, totals[task.stage])
            for task, reason in work(stages, chosen, 1 if on_gpu else min(most, len(chosen))):
                extractor, now = extractors[task.stage], time.monotonic()
                extractor.seconds, last = extractor.seconds + now - last, now
                ended[task.stage] += 1
                for each in sharing[task.target]:
                    if reason:
                        self._fail(clips[each.clip], stages[task.stage].key, each.path, reason)
                extractor.failed += len(sharing[task.target]) if reason else 0
                extractor.done += 0 if reason else len(sharing[task.target])
                self.progress(stages[task.stage].key, ended[task.stage], totals[task.stage])
        self.progress.clear()
        order = {clip.name: number for number, clip in enumerate(self.clips)}
        keys = list(self.extractors)
        self.failures.sort(key=lambda failure: (order[failure.clip], keys.index(failure.modality)))

    # the data sets

    def _unaligned(self, clips: list[Clip]) -> Layout:
        return Unaligned(clips, self._targets(clips), self.plan.modalities, most=self.plan.max_length)

    def _aligned(self, clips: list[Clip]) -> Aligned:
        rates = {key: extractor.rate for key, extractor in self.extractors.items()}
        text = self.extractors.get("text")
        return Aligned(clips, self._targets(clips), self.plan.modalities, rates=rates, spans=text.spans if text else None)

    def _targets(self, clips: list[Clip]) -> dict[str, dict[str, np.ndarray]]:
        """By split: the labels of these clips, and those of single modalities, under the keys of the schema."""
        kept = {clip.name for clip in clips}
        found: dict[str, dict[str, np.ndarray]] = {}
        for split in SPLITS:
            names = self.table.clips[split]
            rows = [i for i, name in enumerate(names) if name in kept]
            keys = {f"{split}/target": "regression_labels" if self.plan.manifest.task == "regression" else "classification_labels"}
            keys |= {f"{split}/unimodal/{name}": key for name, key in content.UNIMODAL.items() if f"{split}/unimodal/{name}" in self.table.columns}
            found[split] = {key: self.table.columns[name].rows(0, len(names))[rows] for name, key in keys.items()}
        return found

    def _used(self, layout: str) -> list[str]:
        """The extractors that a layout is made of: token ids have no place among words, and times are of no use without them."""
        return [key for key in self.extractors if key != {"aligned": TOKENS, "unaligned": ALIGNER}[layout]]

    def _most(self, layout: str) -> dict[str, int]:
        return self.plan.max_length if layout == "unaligned" else {}

    def _digest(self, layout: str, clips: Sequence[Clip]) -> str:
        """What identifies a data set: the labels, the clips, and by modality the extractor and the content of every recording."""
        manifest = self.plan.manifest
        facts = [VERSION, content.VERSION, manifest.name, manifest.protocol, manifest.task, manifest.classes, manifest.label_range]
        results = {key: [clip.results[key].parts[-2:] for clip in clips if key in clip.results] for key in self._used(layout)}
        text = json.dumps([*facts, self.labels, layout, self._most(layout), [(clip.split, clip.name) for clip in clips], results])
        return hashlib.sha256(text.encode()).hexdigest()

    def _put(self, layout: Layout, replace: bool) -> Written:
        built = content.Content(self.folder, self.plan.manifest, layout.schema(), {"name": "extract", "version": VERSION})
        out = {failure.clip for failure in self.failures}
        for key in dict.fromkeys(failure.modality for failure in self.failures):
            names = list(dict.fromkeys(failure.clip for failure in self.failures if failure.modality == key))
            about = key if key in self.plan.modalities else next(iter(self.plan.modalities), "tokens")
            layout.say(about, f"{len(names)} clips are left out of the data set, since {key} could not be extracted; first {', '.join(names[:3])}")
        origin = {
            "name": self.plan.manifest.name,
            "protocol": self.plan.manifest.protocol,
            "part": self.plan.manifest.part,
            "digest": self._digest(layout.name, layout.clips),
            "known": False,
            "path": shared(str(self.folder.resolve())),
            "extraction": {
                "version": VERSION,
                "label_csv": self.labels,
                "extractors": {key: self._describe(key) for key in self._used(layout.name)},
                "max_length": self._most(layout.name),
                "clips": {split: sum(clip.split == split for clip in layout.clips) for split in SPLITS},
                "left_out": [clip.name for clip in self.clips if clip.name in out],
                "versions": _versions(),
            },
        }
        return put(self.base / layout.name, built, {"origin": origin, "notices": layout.said, "simulated": False}, replace)

    def _describe(self, key: str) -> dict[str, Any]:
        extractor, choice = self.extractors[key], self.plan.choices[key]
        return {
            "name": choice.entry.key,
            "version": choice.entry.version,
            "options": shared(options(choice)),
            "digest": extractor.digest,
            "frame_rate": extractor.rate,
            "device": extractor.stage.device.partition(":")[0],
        }

    def _write_failures(self) -> None:
        """``failures.csv`` beside the data sets; an older one goes where nothing failed."""
        path = self.base / FAILURES
        try:
            if not self.failures:
                path.unlink(missing_ok=True)
                return
            table = io.StringIO(newline="")
            writer = csv.writer(table)
            writer.writerow(["split", "clip", "modality", "file", "reason"])
            told = ([failure.split, failure.clip, failure.modality, failure.file, failure.reason] for failure in self.failures)
            writer.writerows(map(csv_text, shared(row)) for row in told)
            write(path, table.getvalue())
        except OSError as error:
            raise DataError(cannot_write(error, self.base, "--out names another folder")) from None


def _unreadable(path: Path) -> str:
    try:
        with open(path, "rb"):
            return "cannot be read"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed a day ago or earlier left unfinished."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE:
                path.unlink()
