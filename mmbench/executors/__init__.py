"""Executors carry out runs; the core has the local one, cluster executors are plugins.

For a plugin: `LocalExecutor` executes runs on the machine that the plugin has brought them to, `Watch` reads what runs elsewhere tell through
their folders, and `Queued` is the note that a run has been handed to a scheduler. Imports no torch.
"""

from mmbench.executors.config import LocalConfig
from mmbench.executors.local import LocalExecutor
from mmbench.executors.watch import Watch
from mmbench.queued import Queued

__all__ = ["LocalConfig", "LocalExecutor", "Queued", "Watch"]
