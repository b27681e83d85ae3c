"""Looks into finished runs: opened read-only, their embeddings, and what their network does with other inputs. Nothing here scores a method."""

from mmbench.diagnostics.opening import OpenRun, open_run

__all__ = ["OpenRun", "open_run"]
