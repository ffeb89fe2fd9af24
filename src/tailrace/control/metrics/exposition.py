"""A snapshot in the text formats of Prometheus. Takes 10 us per sample: call it in a thread of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.samples import Sample

from tailrace.control.metrics.catalogue import Family
from tailrace.control.metrics.snapshot import Snapshot
from tailrace.edge.numbers import Histogram

# Python runs one thread at a time and takes it from one that computes only after 5 ms: every so many samples
# (0.5 ms) the loop's thread is let in, so that no event of a stream waits for a scrape.
_BREATH_SAMPLES = 50
_BREATH_S = 0.000_05


def render(snapshot: Snapshot, families: Sequence[Family], accept: str) -> tuple[bytes, str]:
    """These metrics in the format that an Accept header asks for, and the content type of it."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # the library's, for a version that is none
        encode, content_type = choose_encoder("")
    return encode(_Families(snapshot, families)), content_type


class _Families:
    """What the library calls a collector: metrics that are made while they are written."""

    def __init__(self, snapshot: Snapshot, families: Sequence[Family]) -> None:
        self._snapshot = snapshot
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            # The library takes the kind's own ending for granted.
            name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
            metric = Metric(name, family.sentence, family.kind)
            metric.samples = _Samples(family, self._snapshot)  # type: ignore[assignment]  # iterated once
            yield metric
        yield from ProcessCollector(registry=None).collect()


class _Samples:
    """A family's samples, with breaths between them."""

    def __init__(self, family: Family, snapshot: Snapshot) -> None:
        self._family = family
        self._snapshot = snapshot

    def __iter__(self) -> Iterator[Sample]:
        for number, sample in enumerate(_samples(self._family, self._snapshot), 1):
            if number % _BREATH_SAMPLES == 0:
                time.sleep(_BREATH_S)
            yield sample


def _samples(family: Family, snapshot: Snapshot) -> Iterator[Sample]:
    for values, value in family.read(snapshot):
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, Histogram):
            yield from _histogram(family.name, labels, value)
        else:
            yield Sample(family.name, labels, float(value))


def _histogram(name: str, labels: dict[str, str], histogram: Histogram) -> Iterable[Sample]:
    ends = [*(repr(bound) for bound in histogram.bounds), "+Inf"]
    for end, count in zip(ends, itertools.accumulate(histogram.counts), strict=True):
        yield Sample(f"{name}_bucket", {**labels, "le": end}, float(count))
    yield Sample(f"{name}_sum", labels, histogram.total)
    yield Sample(f"{name}_count", labels, float(histogram.count))
