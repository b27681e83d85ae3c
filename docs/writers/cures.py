"""What to do about messages that do not say it themselves, for the page of all messages."""

from __future__ import annotations

INTRODUCTIONS = {
    "Reading and checking data": "A file that is damaged, or holds something else than is expected, is fetched, copied or exported anew. "
    "`mmbench data check NAME` says all that is found, [your data](../start/own-data.md) what is read.",
    "Extracting features": "A clip that fails is listed with its reason. Mend it and give the same command, which goes on with what is missing, "
    "or add `--leave-out-failed`.",
    "Training": "The reason of a run stands in `mmbench status`, more of it in the run's `log.txt`. "
    "`mmbench run CONFIG --rerun failed` tries failed runs again.",
    "Tables, figures, comparisons": "*Run this seed again* is `mmbench run CONFIG --seeds N --rerun all`, which makes that one run anew.",
    "Opening finished runs": "*Run this seed anew* is `mmbench run CONFIG --seeds N --rerun all`.",
    "Plugins and their tests": "`Failed` and `Skipped` come from `mmbench test` and are for whoever writes the plugin: "
    "[conformance](../extend/conformance.md).",
    "Commands": "`mmbench VERB --help` has every option with its default.",
    "Configs": "`mmbench check CONFIG` finds all mistakes of a config at once and trains nothing; [config keys](config.md) has every key.",
}
"""By what the user was doing."""
CURES = {
    "no data set is called": "take a name from the list, or the path of a manifest",
    "data.modalities: … has no": "leave it out of `data.modalities`",
    "…: has labels that are not class indices": "labels of a classification are 0, 1, 2, ...; or name a data set of regression",
    "…: no row has mode": "the column `mode` says `train`, `valid` or `test` of each row",
    "…: the column … stands there twice": "rename one of them",
    "…: holds a …, not a dict with the splits": "the file is none of MMSA's pickles; [your data](../start/own-data.md) says what is read",
    "all samples together are the published ones": "another division of the same samples: `--set data.splits=own` accepts and marks it",
    "split … is not the published one": "another file than the published one, or `--set data.splits=own`, which accepts and marks it",
    "the file is no known copy of": "it is used all the same; ask where the file came from before numbers are compared with published ones",
    "which samples are … is not published": "nothing to do: what can be checked has been",
    "the data are SIMULATED": "real ones: `--data-root DIR`, without `data.simulated`",
    "data.features says": "leave `data.features` out, or name the file of the other layout",
    "…: … samples have no real frame among the first": "a larger `data.max_length`",
    "the pickle asks for": "it holds objects, not data: export arrays, text and numbers, or convert it where you trust it",
    "an array of type …": "store numbers as float32 or int64, text as str",
    "… became … in epoch": "as the message says; `mmbench run CONFIG --rerun failed` after that",
    "stopped on request after a step": "the same command goes on",
    "its process …": "`log.txt` has its last words; killed without any is most often memory: fewer `--jobs`",
    "was killed by": "most often memory: fewer `--jobs`, a smaller `training.batch_size`",
    "another process of the run has gone": "`log.txt` says which, and why",
    "a component ended the process": "a plugin called exit: tell who wrote it",
    "no seed is done in both": "run the same seeds of both: `--seeds`",
    "no test predictions are stored": "`mmbench run CONFIG --seeds N --rerun all` makes that run anew",
    "its seeds have different test samples": "runs on two versions of the data are under one name: run one of them anew, with another `--out`",
    "one test video: nothing can be drawn": "a data set whose test ids name several videos",
    "no installed plugin has the metric": "install the plugin that brings it; `mmbench list metric` has what is there",
    "…: has no finished run": "`mmbench status DIR` says why; `mmbench run CONFIG` goes on",
    "times and memory are not comparable between devices": "compare the scores alone, or run all on one device",
    "runs were made by different versions of the code": "for a paper: `mmbench run CONFIG --rerun all` with one version",
    "…: is not ranked: …": "run the seeds that the other rows have",
    "one seed says nothing of other seeds": "`--seeds 1-5`",
    "loss … needs …, which model": "another model, or a loss that needs less: `mmbench list`",
    "MMBENCH_PLUGINS names": "correct the variable, or unset it",
    "no check matches": "`mmbench test -v` has the names of all checks",
    "is missing": "add the key; `mmbench show KIND NAME` has its meaning",
}
"""By the beginning of a message, as the page has it."""
