"""The real local model for tests that ask it: there already, or the test is skipped (fails in CI)."""

from __future__ import annotations

from tailrace.llm.install import InstalledModel, find_model
from tests.kit.needs import missing


def needs_local_model() -> InstalledModel:
    """The installed model; tests never fetch it themselves."""
    model = find_model()
    if model is None:
        missing("the local model is not installed; to run this test: tailrace llm install")
    return model
