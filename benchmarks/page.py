"""Makes docs/performance.md of the recorded figures and of the prose in performance.template.md.

    python benchmarks/page.py            # write it
    python benchmarks/page.py --check    # exit code 1 where the page is not what the figures make

Needs no torch. A table whose figures were not recorded says how to get them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "performance.md"
TEMPLATE = FOLDER / "performance.template.md"
FORMS = {("mosi", "aligned"): "CMU-MOSI, aligned", ("mosi", "unaligned"): "CMU-MOSI, unaligned", ("mosei", "aligned"): "CMU-MOSEI, aligned"}

Figures = Mapping[str, Any]


@click.command()
@click.option("--results", type=click.Path(path_type=Path), default=FOLDER / "results", help="Folder of the figures.")
@click.option("--page", type=click.Path(path_type=Path), default=PAGE, help="The file to write.")
@click.option("--check", is_flag=True, help="Write nothing; say whether the page is what the figures make.")
def main(results: Path, page: Path, check: bool) -> None:
    """Write the page of the figures."""
    text = render(TEMPLATE.read_text(encoding="utf-8"), results)
    if not check:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
        click.echo(f"written: {page}")
    elif not page.is_file() or page.read_text(encoding="utf-8") != text:
        click.echo(f"{page}: is not what the figures in {results} make; run python benchmarks/page.py", err=True)
        sys.exit(1)


def render(template: str, results: Path) -> str:
    """The template with a table in place of each ``{{name}}``."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in OF_ALL:
            return OF_ALL[name](found)
        maker, file = TABLES[name]
        if file in found:
            return maker(found[file])
        where = " on a machine with a GPU" if file == "gpu" else ""
        return f"*Not recorded yet: `python benchmarks/{file}.py`{where}.*"

    return re.sub(r"\{\{([a-z_]+)\}\}", table, template)


def grid(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown; numbers to the right."""
    body = [[str(cell) for cell in row] for row in rows]
    right = [all(re.match(r"[-x]?\d|-?$", row[i]) for row in body) and i > 0 for i in range(len(head))]
    lines = [head, ["--:" if number else "---" for number in right], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits at least, and no more decimals than they need."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.{digits}g}"


def ms(spread: Figures) -> str:
    """Median with the fastest and the slowest."""
    return f"{number(spread['median_ms'])} ({number(spread['min_ms'])}-{number(spread['max_ms'])})"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %" if abs(share) < 0.1 else f"{100 * share:.0f} %"


def records(found: Mapping[str, Any]) -> str:
    """What was recorded where and when."""
    rows = []
    for name, figures in found.items():
        if not isinstance(figures, dict) or "machine" not in figures:
            continue
        machine = figures["machine"]
        who = f"{machine['processor']}, {' '.join(machine['instructions'])}, {machine['cores']} cores, {machine['memory_gib']} GiB"
        quick = " **(a quick run: its figures mean nothing)**" if figures["quick"] else ""
        commit = (figures["commit"] or "unknown") + ("" if figures["whole"] else ", in part")
        rows.append([f"`{name}`{quick}", who, f"torch {machine['torch']}", figures["threads"], figures["date"], commit])
    return grid(["figures", "machine", "versions", "threads", "date", "commit"], rows) if rows else "*Nothing was recorded yet.*"


PEERS = {
    "decalign": 1.8,
    "mult": 1.3,
    "mult_unaligned": 2.0,
    "tfn": 1.5,
    "lmf": 1.2,
    "misa_bert": 1.8,
    "self_mm_bert": 1.8,
    "decalign_bert": 1.8,
}
"""What is aimed at for a step beside other code, by case: so many times as fast."""


def glance(found: Mapping[str, Any]) -> str:
    """What was aimed at, what was found, and whether that is enough."""
    rows: list[list[str]] = []

    def add(what: str, aim: str, measured: str, reached: bool) -> None:
        rows.append([what, aim, measured, "yes" if reached else "**no**"])

    for row in found.get("peers", ()):
        aim = PEERS[row["case"]]
        name = f"step of `{row['case']}` beside other code ({row['lengths']}, {row['threads']} threads)"
        add(name, f"x{aim:g}", f"x{number(row['ratio'])}", row["ratio"] >= aim)
        ours, theirs = row["ours"].get("peak_mb"), row["peer"].get("peak_mb")
        if ours and theirs:
            add("its memory", "at most half of theirs", percent(ours / theirs), ours <= theirs / 2)
    measured = [row for row in found.get("steps", {"rows": ()})["rows"] if "step" in row]
    if measured:
        shares = [row["share_of_machine"] for row in measured]
        for method in ("decalign", "slad"):
            losses = max((row["losses_share"] for row in measured if row["config"].startswith(method)), default=None)
            if losses is not None:
                add(f"alignment losses of {method}, share of a step, at most", "< 10 %", percent(losses), losses < 0.1)
        enough = sum(share >= 1 / 3 for share in shares)
        spread = f"{percent(min(shares))} to {percent(max(shares))}; {enough} of {len(shares)} reach it"
        add("products of a step, share of the matrix rate", "a third, or the reasons below", spread, enough == len(shares))
    if "epoch" in found:
        for row in found["epoch"]["rows"]:
            add(f"outside the model, `{row['config']}`", "< 3 % of an epoch", percent(row["outside_share"]), row["outside_share"] < 0.03)
    start = found["start"]["rows"] if "start" in found else {}
    if "second" in start:
        plan, rest = start["second"]["plan"]["seconds"], start["second"]["worker"]["rest_s"]
        seconds = f"{number(plan)} + {number(rest)} s"
        add("second start to the first batch, beyond importing torch: planning + run", "< 1 s", seconds, plan + rest < 1)
        most, beyond = start["data_mb"] + 300, start["pass"]["rss"] - start["torch_mb"]
        add("memory after a pass over the data, beyond torch's", f"< {number(most)} MiB", f"{number(beyond)} MiB", beyond < most)
    workers = [row["median_ms"] for name, row in start.get("loaders", {}).items() if name not in ("ours", "0 workers")]
    if workers:
        ratio = min(workers) / start["loaders"]["ours"]["median_ms"]
        add("batching an epoch against the fastest loader with workers", "x10", f"x{number(ratio)}", ratio >= 10)
    if "encoders" in found:
        for row in found["encoders"]["rows"]:
            if row["finetune"]:
                gain = row["gain"]["packed"]
                add(f"fine-tuned encoder, `{row['config']}`, against padding", "x1.8", f"x{number(gain)}", gain >= 1.8)
            else:
                ratio = row["ratio"]
                add(f"frozen encoder, `{row['config']}`, against precomputed features", "1.05", number(ratio), ratio <= 1.05)
    if "jobs" in found:
        settings = found["jobs"]["settings"]
        speedup, equal = settings["speedup"], settings["equal"]
        text = f"x{number(speedup)}, {'equal' if equal else 'not equal'}"
        add("seeds side by side against all threads for one", "x1.4, equal numbers", text, speedup >= 1.4 and equal)
    return grid(["what", "aim", "found", "reached"], rows) if rows else "*Nothing was recorded yet, so nothing is shown to be reached.*"


def steps(figures: Figures) -> str:
    """Time, products, share of the machine and memory of each method, by shape."""
    parts = []
    asked = {(row["dataset"], row["features"], row["threads"]) for row in figures["rows"]}
    for *form, threads in sorted(asked, key=lambda group: (list(FORMS).index(group[:2]) if group[:2] in FORMS else len(FORMS), -group[2])):
        rows = [row for row in figures["rows"] if [row["dataset"], row["features"], row["threads"]] == [*form, threads]]
        title = FORMS.get(tuple(form))
        if title:
            head = ["config", "step, ms", "losses", "parameters", "GFLOP", "of the matrix rate", "operator calls", "memory, MiB"]
            shape = next((", ".join(f"{name} {t} x {d}" for name, (t, d) in row["shape"].items()) for row in rows if "shape" in row), "")
            each = f"{threads} thread{'s' * (threads > 1)}"
            parts.append(f"**{title}, {each}** ({shape}; batches of {rows[0]['batch']})\n\n{grid(head, map(_step, rows))}")
    if not figures["whole"]:
        parts.append("*Not all shapes and methods are recorded yet: `python benchmarks/steps.py` goes on.*")
    return "\n\n".join(parts)


def _step(row: Figures) -> list[str]:
    if "problem" in row:
        return [row["config"], row["problem"].rpartition(": ")[2], *["-"] * 6]
    own = [percent(row["losses_share"]) if row["losses_share"] else "-", f"{row['parameters']:,}".replace(",", " "), number(row["gflop"])]
    return [row["config"], ms(row["step"]), *own, percent(row["share_of_machine"]), number(row["operator_calls"], 4), number(row["peak_mb"])]


def parts(figures: Figures) -> str:
    """Shares of the parts of a step, on the first shape."""
    first = (*next(iter(FORMS)), figures["threads"])
    rows = [row for row in figures["rows"] if "parts_ms" in row and (row["dataset"], row["features"], row["threads"]) == first]
    names = list(rows[0]["parts_ms"]) if rows else []
    body = ([row["config"], *(percent(row["parts_ms"][name] / sum(row["parts_ms"].values())) for name in names)] for row in rows)
    return grid(["config", *names], body)


def rates(figures: Figures) -> str:
    """What the machine does in matrix products of several shapes: median over all processes of the benchmark, least and greatest, by threads."""
    measured = [(row["threads"], row["matrix_gflops"]) for row in figures["rows"] if "matrix_gflops" in row]
    threads = sorted({each for each, _ in measured})
    body = []
    for name in measured[0][1] if measured else ():
        body.append([name])
        for each in threads:
            values = sorted(found[name] for own, found in measured if own == each)
            body[-1].append(f"{number(values[len(values) // 2])} ({number(values[0])}-{number(values[-1])})")
    return grid(["rows x inner x columns", *(f"GFLOP/s, {each} thread{'s' * (each > 1)}" for each in threads)], body)


def peers(figures: Sequence[Figures]) -> str:
    """Steps of other code beside ours."""
    head = ["method", "shape", "batch", "threads", "other code", "its step, ms", "ours, ms", "ratio", "its memory, MiB", "ours", "our commit"]
    return grid(head, (_peer(row) for row in figures))


def _peer(row: Figures) -> list[str]:
    other, ours = row["peer"], row["ours"]
    who = f"{other['name']} {other['version']}"
    times = [ms(other), ms(ours), f"x{number(row['ratio'])}"]
    return [
        row["method"],
        row["shape"],
        row["batch"],
        row["threads"],
        who,
        *times,
        number(other.get("peak_mb")),
        number(ours.get("peak_mb")),
        row["commit"],
    ]


def epoch(figures: Figures) -> str:
    """Where an epoch's time goes."""
    blocks = []
    for row in figures["rows"]:
        body = [[name, number(1000 * seconds), percent(seconds / row["epoch_s"])] for name, seconds in row["seconds"].items()]
        body.append([f"epoch, mean of {row['epochs']}", number(1000 * row["epoch_s"]), ""])
        blocks.append(f"`{row['config']}`: outside the model {percent(row['outside_share'])}\n\n{grid(['part', 'ms', 'share'], body)}")
    return "\n\n".join(blocks)


def start(figures: Figures) -> str:
    """Start-up and memory."""
    rows = figures["rows"]
    body = [["`mmbench --help`", rows["help_s"], ""], ["`import torch` alone", rows["import_torch_s"], number(rows["torch_mb"])]]
    for name in ("first", "second"):
        if name in rows:
            plan, worker = rows[name]["plan"], rows[name]["worker"]
            body.append([f"{name} start: planning, without torch", plan["seconds"], f"{number(plan['rss'])}, own {number(plan['anon'])}"])
            seconds = f"{worker['rest_s']} after {worker['torch_s']} for torch"
            body.append([f"{name} start: a run's process, to its first batch", seconds, f"{number(worker['rss'])}, own {number(worker['anon'])}"])
    if "pass" in rows:
        whole = rows["pass"]
        name = f"all {whole['batches']} batches of an epoch, nothing computed"
        body.append([name, whole["seconds"], f"{number(whole['rss'])}, own {number(whole['anon'])}"])
    source = "simulated data, the store made" if rows["source"] == "simulated" else "a file in the layout of MMSA's `aligned_50.pkl`, converted"
    told = f"{rows['samples']} samples, {number(rows['data_mb'])} MiB of features; {source} at the first start."
    return f"{told}\n\n{grid(['what', 'seconds', 'resident MiB'], body)}"


def loaders(figures: Figures) -> str:
    """Batching an epoch, beside torch's DataLoader."""
    found = figures["rows"]["loaders"]
    ours = found["ours"]["median_ms"]
    return grid(["batches from", "ms per epoch", "ratio"], ([name, ms(row), f"x{number(row['median_ms'] / ours)}"] for name, row in found.items()))


def jobs(figures: Figures) -> str:
    """Seeds side by side."""
    settings = figures["settings"]
    body = [
        [
            f"`--jobs {row['jobs']}`, {row['threads']} thread{'s' * (row['threads'] > 1)} each",
            row["runs"],
            number(row["seconds"]),
            number(3600 * row["runs"] / row["seconds"]),
        ]
        for row in figures["rows"]
    ]
    equal = "equal to the last bit" if settings["equal"] else "**not equal**"
    what = f"`{settings['config']}`, {settings['seeds']} seeds, epochs: {settings['epochs']}, {settings['samples']} samples over all splits"
    compared = figures["rows"][-1]["runs"]
    return (
        f"{what}, the start of each run included: x{number(settings['speedup'])} the throughput of one run with all threads. Scores and predictions "
        f"of `--jobs {settings['jobs']}` and of `--jobs 1` at the same number of threads are {equal} (the first {compared}).\n\n"
        f"{grid(['way', 'runs', 'seconds in all', 'runs per hour'], body)}"
    )


def finetuned(figures: Figures) -> str:
    """Steps with an encoder in the loop."""
    settings = figures["settings"]
    rows = [row for row in figures["rows"] if row["finetune"]]
    ways = list(dict.fromkeys(name for row in rows for name in row["steps"]))
    body = [[row["config"], *(f"{ms(row['steps'][name])}, x{number(row['gain'][name])}" for name in ways)] for row in rows]
    bf16 = "" if all(row["bf16"] for row in rows) else "\n\nbf16 was not measured: this processor has no instructions for it."
    sizes = f"{settings['layers']} layers of width {settings['width']}, {settings['mean_length']} tokens on average, at most 50"
    return f"{sizes}; ms per step, and the gain over padding.\n\n{grid(['config', *ways], body)}{bf16}"


def frozen(figures: Figures) -> str:
    """Epochs on the cached features of a frozen encoder."""
    row = next((row for row in figures["rows"] if not row["finetune"]), None)
    if row is None:
        return "*Not recorded yet: `python benchmarks/encoders.py` goes on.*"
    body = [[name, ms(own)] for name, own in row["epochs"].items()]
    return (
        f"`{row['config']}`, {row['samples']} samples: ratio {number(row['ratio'])}. Encoding them the first time took {number(row['first_s'])} s, "
        f"finding them in the cache {number(row['cached_s'])} s.\n\n{grid(['text features', 'ms per epoch'], body)}"
    )


def growth(figures: Figures, chosen: Callable[[Figures], bool]) -> str:
    """Columns of growing sizes with their exponents."""
    columns = [column for column in figures["rows"]["columns"] if chosen(column)]
    if not columns:
        return "*No such column was recorded.*"
    points = columns[0]["points"]
    body = []
    for found in columns:
        name = found["what"].removeprefix("loss ")
        if "problem" in found:
            body.append([name, *["-"] * len(points), "-", found["problem"].rpartition(": ")[2]])
            continue
        times = [number(value) for value in found["ms"]] + ["refused"] * (len(points) - len(found["ms"]))
        body.append([name, *times, number(found["exponent"], 2), number(found["products_exponent"], 2)])
    return grid(["", *(f"{columns[0]['against']} {point}" for point in points), "exponent of time", "of products"], body)


def sizes(figures: Figures) -> str:
    """A small model on data sets of growing size."""
    head = ["samples", "data, MiB", "open, s", "a batch, ms", "a step, ms", "own memory, MiB", "mapped, MiB"]
    names = ("data_mb", "open_s", "batch_ms", "step_ms", "own_memory_mb", "mapped_mb")
    body = []
    for row in figures["rows"]["data"]:
        values = [number(row[name]) for name in names] if "problem" not in row else [row["problem"], *["-"] * (len(names) - 1)]
        body.append([f"{row['samples']:,}".replace(",", " "), *values])
    return grid(head, body)


def gpu(figures: Figures) -> str:
    """Steps on a GPU, eager and captured."""
    columns = ("config", "precision", "compile", "ms_per_step", "kernels_per_step", "launches_per_step", "waits_per_epoch", "peak_memory_mb")
    body = [[row.get(name, "") for name in columns] for row in figures["rows"]]
    return f"{figures['device']}, torch {figures['torch']}.\n\n{grid([name.replace('_', ' ') for name in columns], body)}"


def _against(kind: str, loss: bool) -> tuple[Callable[[Any], str], str]:
    return lambda figures: growth(figures, lambda found: found["against"] == kind and found["what"].startswith("loss ") == loss), "growth"


TABLES: dict[str, tuple[Callable[[Any], str], str]] = {
    "steps": (steps, "steps"),
    "parts": (parts, "steps"),
    "rates": (rates, "steps"),
    "peers": (peers, "peers"),
    "epoch": (epoch, "epoch"),
    "start": (start, "start"),
    "loaders": (loaders, "start"),
    "jobs": (jobs, "jobs"),
    "finetuned": (finetuned, "encoders"),
    "frozen": (frozen, "encoders"),
    "gpu": (gpu, "gpu"),
    "model_length": _against("length", False),
    "model_batch": _against("batch", False),
    "loss_categories": _against("K", True),
    "loss_batch": _against("batch", True),
    "loss_modalities": _against("M", True),
    "sizes": (sizes, "growth"),
}

OF_ALL: dict[str, Callable[[Mapping[str, Any]], str]] = {"glance": glance, "records": records}


if __name__ == "__main__":
    main()
