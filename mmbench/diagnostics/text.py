"""Diagnostics for a terminal: the documents of several runs, mean ± sample standard deviation over the seeds of each configuration."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from mmbench.component import Metric
from mmbench.results.embeddings import FIELDS
from mmbench.results.formats import aligned
from mmbench.results.tables import Column, column
from mmbench.results.text import clean

Documents = Mapping[str, Sequence[Mapping[str, Any]]]
"""The documents of a configuration's seeds, by its name."""
Values = dict[str, dict[str, list[float]]]
"""By row, then by column: a number for each seed."""
Text = Callable[[float], str]

SHOWN = ("label", "shown", "unique", "share_shown", "share_unique")
PROBES = (
    "Probes on the true factors (R² on test: 1 read exactly, 0 not at all). label: the label's factor; shown: what this modality shows of it; "
    "unique: its own three factors; share_*: share of the features' variance that is linear in them.",
    "Ceilings: inputs: the same probe on the raw inputs; patterns: with the true patterns known; factors: the label out of what is truly shown.",
)


def report(documents: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric], metric: str | None = None) -> str:
    """The text of documents on the same data, one configuration or several. `metric`: what single-score tables show; default: the suite's first."""
    grouped = by_configuration(documents)
    scores = list(documents[0]["scores"])
    shown = column(metric or scores[0], metrics)
    makers = (ablation_lines, robustness_lines, similarity_lines, calibration_lines, probe_lines, summary_lines)
    columns = [column(name, metrics) for name in scores]
    lines = [heading(documents), ""]
    for maker in makers:
        lines += maker(grouped, shown, columns)
    return "\n".join(lines).rstrip() + "\n"


def by_configuration(documents: Sequence[Mapping[str, Any]]) -> Documents:
    """Documents by name; names that several configurations have are told apart by their labels."""
    labels: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for document in documents:
        about = document["about"]
        labels.setdefault(clean(str(about.get("name"))), {}).setdefault(str(about.get("label")), []).append(document)
    return {name if len(own) == 1 else f"{name} ({clean(label)})": group for name, own in labels.items() for label, group in own.items()}


def by_data(documents: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Documents on the same data, splits and scores together: other ones do not belong into one table."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        about = document["about"]
        key = str([about["data_fingerprint"], about["split_fingerprints"], list(document["scores"]), about["modalities"]])
        found.setdefault(key, []).append(document)
    return list(found.values())


def heading(documents: Sequence[Mapping[str, Any]]) -> str:
    """Data and what this is."""
    about = documents[0]["about"]
    mark = "SIMULATED " if about.get("simulated", True) else ""
    seeds = len({document["about"].get("seed") for document in documents})
    spread = "mean ± sample standard deviation over seeds" if seeds > 1 else f"seed {about.get('seed')}"
    part = "".join(f", {clean(str(about[key]))}" for key in ("protocol", "part") if about.get(key))
    return f"{mark}{clean(str(about.get('title')))}{part}, test split: diagnostics of trained networks ({spread}); no score of a method"


def table(title: str, values: Values, text: Text | Mapping[str, Text], corner: str = "") -> list[str]:
    """A title and aligned columns under a rule; nothing without columns. `text`: how numbers are written, one for all or by column or row."""
    columns = list(dict.fromkeys(name for row in values.values() for name in row))
    if not columns:
        return []
    rows = []
    for name, row in values.items():
        cells = [spread(row.get(key, []), text if callable(text) else text.get(key) or text.get(name) or short) for key in columns]
        rows.append([(name, ""), *((cell, "") for cell in cells)])
    header, *body = aligned([corner, *columns], rows)
    lines = ["  ".join(header).rstrip(), "  ".join("-" * len(head) for head in header), *("  ".join(row).rstrip() for row in body)]
    return [title, "", *lines, ""]


def spread(values: Sequence[float], text: Text) -> str:
    """Mean ± sample standard deviation of what is known."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "n/a" if values else ""
    return f"{text(fmean(known))}±{text(stdev(known))}" if len(known) > 1 else text(known[0])


def number(value: Any) -> float:
    """A number of a document, NaN for null."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def short(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}"


def label_of(dropped: Sequence[str], names: Sequence[str]) -> str:
    """``all``, ``text alone`` or ``without audio``."""
    left = [clean(name) for name in names if name not in dropped]
    if not dropped:
        return "all"
    return f"{left[0]} alone" if len(left) == 1 else f"without {', '.join(map(clean, dropped))}"


def ablation_lines(grouped: Documents, shown: Column, columns: Sequence[Column]) -> list[str]:
    """Scores without modalities: all scores of one configuration, or one score of several."""
    values: Values = defaultdict(lambda: defaultdict(list))
    fill = ""
    for name, documents in grouped.items():
        for document in documents:
            fill = document["about"]["options"]["fill"]
            for entry in document["ablation"]:
                what = label_of(entry["dropped"], document["about"]["modalities"])
                if len(grouped) > 1:
                    values[name][what].append(number(entry["scores"][shown.key]))
                for score in columns if len(grouped) == 1 else ():
                    values[what][score.key].append(number(entry["scores"][score.key]))
    how = "the training split's mean frame" if fill == "mean" else "zeros"
    title = f"Modality ablation at test time: a dropped modality shows {how} on all its real frames; nothing was trained again"
    if len(grouped) > 1:
        return table(f"{title}. {shown.key}", values, shown.text, "configuration")
    return table(title, values, {score.key: score.text for score in columns}, "inputs")


def robustness_lines(grouped: Documents, shown: Column, columns: Sequence[Column]) -> list[str]:
    """One score by rate, for each kind and modality."""
    values: Values = defaultdict(lambda: defaultdict(list))
    draws = 0
    for name, documents in grouped.items():
        for document in documents:
            for entry in document["robustness"]:
                draws = max(draws, entry["draws"])
                what = f"{clean(entry['kind'])}, {clean(entry['modality'])}"
                row = what if len(grouped) == 1 else f"{what}: {name}"
                values[row][f"{entry['rate']:.1f}"].append(number(entry["scores"][shown.key]))
    ordered = values if len(grouped) == 1 else _by_kind(values)
    drawn = f"{draws} draw{'s' * (draws != 1)}"
    title = f"Robustness: {shown.key} by rate of missing frames (zeroed), or of noise (in training standard deviations); mean of {drawn}"
    return table(title, ordered, shown.text, "disturbance")


def _by_kind(values: Values) -> Values:
    kinds = list(dict.fromkeys(row.split(": ", 1)[0] for row in values))
    return {row: values[row] for kind in kinds for row in values if row.split(": ", 1)[0] == kind}


def networks(grouped: Documents) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Row, ``trained`` or ``untrained``, and document. Configurations that all start from the same networks have those once."""
    for name, documents in grouped.items():
        for document in documents:
            yield f"{name}, trained" if len(grouped) > 1 else "trained", "trained", document
    starts = {
        name: str([(own["about"]["seed"], own["untrained"], (own["probes"] or {}).get("untrained")) for own in group])
        for name, group in grouped.items()
    }
    same = len(set(starts.values())) == 1
    for name, documents in list(grouped.items())[: 1 if same else None]:
        for document in documents:
            yield "untrained" if same else f"{name}, untrained", "untrained", document


def similarity_lines(grouped: Documents, shown: Column, columns: Sequence[Column]) -> list[str]:
    """Gap and CKA by field and pair."""
    count = sum(entry["n"] for documents in grouped.values() for entry in documents[0]["calibration"]) / len(grouped)
    titles = {
        "gap": "Modality gap: distance of two modalities' centres on the unit sphere, 0 to 2 (Liang et al. 2022); "
        f"features without any centre would show about {math.sqrt(2 / max(count, 1)):.3f}",
        "paired_distance": "Distance of a sample's two modalities on the unit sphere, 0 to 2; unrelated directions: 1.414",
        "cka": "Linear CKA of two modalities, 0 to 1 (Kornblith et al. 2019)",
    }
    lines = []
    for key, title in titles.items():
        values: Values = defaultdict(lambda: defaultdict(list))
        if key != "cka" and any(v is None for ds in grouped.values() for d in ds for pairs in d[key].values() for v in pairs.values()):
            title += "; n/a: features of two widths have none"
        for row, which, document in networks(grouped):
            for field, pairs in (document if which == "trained" else document["untrained"])[key].items():
                for pair, value in pairs.items():
                    values[f"{field} {clean(pair)}"][row].append(number(value))
        lines += table(title, values, short, "features")
    return lines


def calibration_lines(grouped: Documents, shown: Column, columns: Sequence[Column]) -> list[str]:
    """Bins of one configuration, or the summaries of several."""
    values: Values = defaultdict(lambda: defaultdict(list))
    texts: dict[str, Text] = {"n": lambda value: f"{value:.0f}"}
    classes: Values = defaultdict(lambda: defaultdict(list))
    for name, documents in grouped.items():
        for document in documents:
            summary = document["calibration_summary"]
            for entry in document["calibration"] if len(grouped) == 1 else ():
                for key in ("n", "target", "prediction", "bias", "mae"):
                    if key in entry:
                        values[f"{entry['low']:+.3g} to {entry['high']:+.3g}"][key].append(number(entry[key]))
            for entry in summary.get("classes", ()) if len(grouped) == 1 else ():
                for key in ("probability", "precision", "recall", "calibration_error"):
                    classes[clean(entry["class"])][key].append(number(entry[key]))
            for key, value in summary.items():
                if key != "classes":
                    values[name if len(grouped) > 1 else "whole split"][key.replace("_", " ")].append(number(value))
    regression = not any(document["about"]["classes"] for documents in grouped.values() for document in documents)
    what = (
        "by bin of the label; slope of the prediction on the label"
        if regression
        else "by bin of confidence: accuracy (target), confidence (prediction)"
    )
    return table(f"Calibration {what}", values, texts, "") + table("Reliability by class", classes, short, "class")


def probe_lines(grouped: Documents, shown: Column, columns: Sequence[Column]) -> list[str]:
    """What probes read, by field and modality."""
    values: Values = defaultdict(lambda: defaultdict(list))
    for row, which, document in networks(grouped):
        for field, own in ((document["probes"] or {}).get(which, {})).items():
            for modality, found in own.items():
                for key in SHOWN:
                    values[f"{row}: {field} {clean(modality)}"][key].append(number(found.get(key)))
    for documents in grouped.values():
        for kind, own in ((documents[0]["probes"] or {}).get("references", {})).items():
            for modality, found in own.items():
                values[f"{kind} {clean(modality)}"] = {key: [number(found[key])] for key in SHOWN if key in found}
        break  # the same data for all
    lines = table(PROBES[0], values, short, "features")
    return [*lines[:-1], PROBES[1], ""] if lines else []


def summary_lines(grouped: Documents, shown: Column, columns: Sequence[Column]) -> list[str]:
    """One column for each network: means over modalities and pairs."""
    values: Values = defaultdict(lambda: defaultdict(list))
    for name, which, document in networks(grouped):
        own = document if which == "trained" else document["untrained"]
        if which == "trained":
            values[shown.key][name].append(number(document["scores"][shown.key]))
        probed = (document["probes"] or {}).get(which, {})
        for field in ("common", "unique"):
            for factor in SHOWN if field in probed else ():
                what = f"{field}: {factor.removeprefix('share_')}'s share" if factor.startswith("share_") else f"{field}: R² of {factor}"
                values[what][name].append(mean(found[factor] for found in probed[field].values()))
        for key in ("gap", "paired_distance", "cka"):
            for field in FIELDS:
                if field in own[key]:
                    values[f"{field}: {key.replace('_', ' ')}"][name].append(mean(own[key][field].values()))
        for key, title in (("cosine", "common and unique: cosine"), ("cka", "common and unique: cka")):
            if own["separation"]:
                values[title][name].append(mean(entry.get(key) for entry in own["separation"].values()))
    return table("In short, means over modalities and pairs", values, {shown.key: shown.text})


def mean(values: Iterable[Any]) -> float:
    """Mean of the numbers that are known."""
    known = [value for value in map(number, values) if not math.isnan(value)]
    return fmean(known) if known else math.nan
