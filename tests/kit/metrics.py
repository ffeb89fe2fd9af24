"""What `/metrics` says, read with the parser of Prometheus's own library."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

LIMIT_S = 10.0


@dataclass(frozen=True)
class Scrape:
    """One answer of `/metrics`."""

    text: str

    @property
    def families(self) -> dict[str, Metric]:
        """By name as the parser has it: a counter without its ``_total``."""
        return {family.name: family for family in text_string_to_metric_families(self.text)}

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name with these labels; 0 where there is none."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def scrape(url: str) -> Scrape:
    """Ask once."""
    return Scrape(httpx.get(url, timeout=30).raise_for_status().text)


def wait_scrape(url: str, is_so: Callable[[Scrape], bool]) -> Scrape:
    """Ask until the numbers are as told: a call's end is counted a moment after its client saw it."""
    until = time.monotonic() + LIMIT_S
    while not is_so(found := scrape(url)):
        assert time.monotonic() < until, found.text
        time.sleep(0.02)
    return found
