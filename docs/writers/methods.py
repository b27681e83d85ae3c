"""A page for each model and loss, the pages of the plugins that bring them, and the list of all."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmbench.component import FIELDS
from mmbench.plugins import Entry
from mmbench.results.published import load_published, load_source
from writers.declared import declared, docstrings, options, shipped_configs
from writers.markdown import DOCS, ROOT, docstring, escaped, relinked, spaced, table, written

MEASURED = ROOT / "benchmarks" / "results" / "mosi_text_audio.csv"
KINDS = ("model", "loss")


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with its text."""
    folder = DOCS / "methods"
    for kind in KINDS:
        for entry in declared().of_kind(kind):
            yield page_of(entry), written(_method(entry), f"what {entry.distribution} declares")
    for readme in sorted(ROOT.glob("plugins/*/README.md")):
        page = folder / f"{readme.parent.name}.md"
        yield page, written(spaced(relinked(readme.read_text(), readme, page)), readme.relative_to(ROOT).as_posix())
    yield folder / "index.md", written(_index(), "what the plugins declare")


def page_of(entry: Entry) -> Path:
    """``methods/<kind>-<name>.md``."""
    return DOCS / "methods" / f"{entry.component.kind}-{entry.component.name}.md"


def _link(entry: Entry) -> str:
    return f"[{entry.component.name}]({page_of(entry).name})"


def _index() -> str:
    text = "# Methods\n\nEvery model meets every loss: what a loss needs and a model lacks, an "
    text += "[adapter](../use/configs.md#any-loss-with-any-model) makes. "
    text += "[Measured on CMU-MOSI](measured.md) has what was measured so far; the pages of methods also have what papers print.\n\n"
    for kind, title, column in (("model", "Models", "provides"), ("loss", "Losses", "needs")):
        rows = [
            [_link(entry), escaped(entry.component.summary), _fields(getattr(entry.component, column)), _plugin(entry)]
            for entry in declared().of_kind(kind)
        ]
        text += f"## {title}\n\n" + table([kind, "what it is", column, "from"], rows)
    text += "Extractors, metrics and the rest: [Components](../reference/components.md). A method of your own: [A package](../extend/index.md).\n"
    return text


def _plugin(entry: Entry) -> str:
    has_page = (ROOT / "plugins" / entry.distribution / "README.md").is_file()
    return f"[{entry.distribution}]({entry.distribution}.md)" if has_page else entry.distribution


def _fields(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _method(entry: Entry) -> str:
    component = entry.component
    of_class, of_module = docstrings(entry)
    text = f"# {component.name}\n\n"
    text += f"*{component.kind}, from {_plugin(entry)}*: {escaped(component.summary)}.\n\n" + table(["", ""], _facts(entry))
    text += "## What it computes\n\n" + (docstring(of_class) or "A floor: see its code.\n\n")
    notes = of_module.partition("\n\n")[2]
    if notes:
        text += "## Notes, and what differs elsewhere\n\n" + docstring(notes)
    text += _reading(entry)
    if entry.load_config().model_fields:
        text += "## Options\n\n" + options(entry.load_config())
        text += "*Source* says where a default comes from; *our choice* is what no paper says.\n\n"
    text += "## Adapters\n\n" + _adapters(entry)
    configs = [f"`{name}`" for name, value in shipped_configs().items() if _uses(value, component.kind, component.name)]
    if configs:
        text += "## Configs\n\nExperiments of the package with it, sweeps left out: " + ", ".join(configs) + ".\n\n"
    if component.kind == "model":
        text += _published(component.name) + _measured(component.name)
    return text


READING = re.compile(r"^## (How the papers? (?:is|are) read|Where the released code differs)$", re.MULTILINE)


def _reading(entry: Entry) -> str:
    """Where the README of its package says how equations are read, and what other code does otherwise."""
    readme = ROOT / "plugins" / entry.distribution / "README.md"
    titles = READING.findall(readme.read_text()) if readme.is_file() else []
    links = [f"[{title}]({entry.distribution}.md#{title.lower().replace(' ', '-')})" for title in titles]
    return f"More of the package: {', '.join(links)}.\n\n" if links else ""


def _facts(entry: Entry) -> list[tuple[str, str]]:
    component = entry.component
    limits = [f"`{term}` in {_bound(low, '[')}, {_bound(high, ']')}" for term, (low, high) in component.bounds.items()]
    facts = {
        "paper": escaped(component.paper),
        "needs": _fields(component.needs),
        "provides": _fields(component.provides),
        "terms": ", ".join(f"`{term}`" for term in component.terms),
        "bounds": "; ".join(limits),
        "tasks": ", ".join(component.tasks),
        "least modalities": str(component.min_modalities) if component.min_modalities > 1 else "",
    }
    return [(label, value) for label, value in facts.items() if value]


def _bound(value: float, bracket: str) -> str:
    number = {math.inf: "∞", -math.inf: "-∞"}.get(value, f"{value:g}")
    if math.isinf(value):
        bracket = {"[": "(", "]": ")"}[bracket]
    return f"{bracket}{number}" if bracket in "[(" else f"{number}{bracket}"


def _adapters(entry: Entry) -> str:
    component = entry.component
    if component.kind == "model":
        if not component.provides & set(FIELDS):
            return "It shows no features, so that only losses on its prediction and `fused` fit it.\n\n"
        missing = [field for field in FIELDS if field not in component.provides]
        losses = [_link(loss) for loss in declared().of_kind("loss") if loss.component.needs & set(missing)]
        if not losses:
            return "It fills every field that a loss here needs.\n\n"
        return f"It fills {_fields(component.provides)}. Adapters make the rest for {', '.join(losses)}.\n\n"
    if not component.needs & set(FIELDS):
        return "It needs no field of the representation that a model could lack.\n\n"
    own = [_link(model) for model in declared().of_kind("model") if component.needs & set(FIELDS) <= model.component.provides]
    without = ", ".join(own) or "no model here"
    return f"It needs {_fields(component.needs)}. Without an adapter: {without}; with one: any other model that shows `encoded`.\n\n"


def _uses(config: dict[str, Any], kind: str, name: str) -> bool:
    if kind == "model":
        return (config.get("model") or {}).get("name") == name
    return any(isinstance(loss, dict) and loss.get("name") == name for loss in config.get("losses") or ())


def _published(name: str) -> str:
    rows = []
    for score in load_published():
        if score.model == name and not score.variant:
            place = f"{score.dataset}/{score.protocol}" if score.protocol else score.dataset
            rows.append([place, f"`{score.metric}`", score.printed, escaped(f"{score.source}, {score.table}"), escaped(score.setting)])
    if not rows:
        return ""
    sources = dict.fromkeys(score.source for score in load_published() if score.model == name and not score.variant)
    cited = "\n".join(f"- `{source}`: {escaped(load_source(source).citation)}" for source in sources)
    head = "## Published numbers\n\n**Published, not measured here**, as printed; settings differ, and footnotes are in `published/`.\n\n"
    return head + table(["data", "metric", "printed", "where", "setting"], rows) + cited + "\n\n"


def _measured(name: str) -> str:
    if not MEASURED.is_file():
        return ""
    rows = [row for row in csv.DictReader(MEASURED.read_text().splitlines()) if row["label"].rpartition("-")[0] == name and row["kind"] == "method"]
    if not rows:
        return ""
    percent = {"acc", "f1_"}
    shown = []
    for row in rows:
        times = 100 if row["metric"][:3] in percent else 1
        shown.append([row["configuration"], f"`{row['metric']}`", f"{float(row['mean']) * times:.4g} ± {float(row['sd']) * times:.2g}", row["n"]])
    head = f"## Measured numbers\n\n**Measured here**: {escaped(rows[0]['table'])}; {_versions(rows[0]['configuration'])}. "
    head += (
        "Accuracy and F1 times 100; mean ± sample standard deviation over seeds. All methods in one table: [Measured on CMU-MOSI](measured.md).\n\n"
    )
    return head + table(["config", "metric", "value", "seeds"], shown)


def _versions(configuration: str) -> str:
    """Which version of the code made the runs, as the table's last line says it."""
    last = MEASURED.with_suffix(".txt").read_text().strip().splitlines()[-1]
    for commit, names in re.findall(r"([0-9a-f]{10}) \((.*?)\)(?=;|$)", last):
        if configuration in names.split(", "):
            return f"code {commit}"
    raise SystemExit(f"{MEASURED.with_suffix('.txt')}: does not say which version of the code made {configuration}")
