"""The report as one HTML file that opens from disk without a network: tables, every pair compared, figures, diagnostics, and a page for each run."""

from __future__ import annotations

from mmbench.results.page.build import EXAMPLES, write_page

__all__ = ["EXAMPLES", "write_page"]
