"""Run folders with pandas: scores over seeds, how runs learned, and where models of regression err. `python examples/read_runs.py runs`"""

# %% every finished run below a folder
import json
import sys
from pathlib import Path

import pandas as pd

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
results = {path.parent: json.loads(path.read_text()) for path in sorted(folder.rglob("seed-*/result.json"))}
done = {path: result for path, result in results.items() if result["status"] == "done"}

# %% test scores, mean and sample standard deviation over seeds
scores = pd.DataFrame([{"run": path.parent.name, "seed": result["seed"], **result["metrics"]["test"]} for path, result in done.items()])
print(scores.groupby("run")[["mae", "corr"]].agg(["mean", "std", "count"]))

# %% how the runs learned: one line for each epoch
epochs = pd.concat([pd.read_json(path / "epochs.jsonl", lines=True).assign(run=path.parent.name) for path in done])
print(epochs.groupby("run")["epoch"].max())

# %% the samples that a model gets most wrong, over all of its seeds
predictions = pd.concat([pd.read_csv(path / "predictions.csv.gz").assign(run=path.parent.name) for path in done])
test = predictions[predictions["split"] == "test"]
error = (test["prediction"] - test["target"]).abs().groupby([test["run"], test["id"]]).mean()
print(error.groupby("run").nlargest(3))
