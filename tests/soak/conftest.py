"""Tests that take minutes: collected by `scripts/soak flow` only."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TAILRACE_SOAK") else ["test_*.py"]
