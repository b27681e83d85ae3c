"""One run: the network, the loop, checkpoints, seeds and determinism."""
