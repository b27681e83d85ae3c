"""One run on two processes comes to the numbers of one process: for every loss, every model, and batches that do not divide.

Features and weights are float64 here, and the terms of a loss are added up in float32: that is what the tolerances allow for. Compared are the terms
of each epoch, the predictions, the optimizer's means of the gradients, which have the gradient's size, and the weights.
"""

import os
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest

for _module in ("torch", "mmbench_baselines", "mmbench_decalign", "mmbench_extractors", "mmbench_slad", "torchaudio"):
    if find_spec(_module) is None:
        pytest.skip(f"needs {_module}", allow_module_level=True)

import torch  # noqa: E402

import rank_cases  # noqa: E402
from mmbench.training.join import join, open_store  # noqa: E402
from mmbench.training.ranks import Alone  # noqa: E402
from mmbench.training.seeds import make_deterministic  # noqa: E402
from small_models import save_models  # noqa: E402

CASES = dict(rank_cases.cases())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_models(folder / "bert", folder / "data2vec", dropout=0.0)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory, models):
    """What all cases come to on two processes, of which this is the first."""
    folder = tmp_path_factory.mktemp("together")
    make_deterministic(1)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        port = listening.getsockname()[1]
        second = subprocess.Popen([sys.executable, rank_cases.__file__, str(port), str(folder), str(models)])
        try:
            ranks = join(0, 2, "cpu", open_store(0, 2, port, os.dup(listening.fileno())))
            found = rank_cases.together(0, ranks, folder, models)
            ranks.leave()
            assert second.wait(60) == 0
        finally:
            second.kill()
            second.wait()
    return found


@pytest.mark.parametrize("name", CASES)
def test_two_processes_come_to_the_numbers_of_one(name, together, models, tmp_path) -> None:
    make_deterministic(1)
    alone = rank_cases.Trained(CASES[name], Alone(), tmp_path, models, 1).fit()
    two = together[name]
    for what in ("history", "prediction", "moments"):
        torch.testing.assert_close(two[what], alone[what], rtol=1e-4, atol=1e-6, msg=lambda text, what=what: f"{what}: {text}")
    # A weight whose gradient is zero but for rounding, as that of a bias before a normalisation, moves by some part of the learning rate.
    torch.testing.assert_close(two["weights"], alone["weights"], rtol=1e-4, atol=0.3e-3)


def test_what_one_process_is_asked_stops_both_and_what_goes_on_comes_to_the_same(together) -> None:
    torch.testing.assert_close(together["gone on with"], together["in one go"], rtol=0, atol=0)
    assert len(together["in one go"]["history"]) == 3
