"""Latencies as counts in buckets, as the workers send them: merged over rounds, and asked for percentiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

# As in the workers: a bucket is at most a 128th of its value wide.
BUCKET_BITS = 7


def nanoseconds(bucket: int) -> float:
    """The middle of a bucket. Buckets below 256 are a nanosecond wide; then each half of the numbers of a shift is one power of two."""
    if bucket < 2 << BUCKET_BITS:
        return float(bucket)
    shift = (bucket >> BUCKET_BITS) - 1
    return float((bucket - (shift << BUCKET_BITS)) << shift) + (1 << shift) / 2


class Histogram:
    """How often each latency was seen."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, buckets: Iterable[tuple[int, int]]) -> None:
        for bucket, count in buckets:
            self.counts[bucket] += count

    def percentile_us(self, percent: float) -> float:
        """The latency that this share of the operations does not exceed, in microseconds."""
        total = sum(self.counts.values())
        wanted, seen = total * percent / 100, 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return nanoseconds(bucket) / 1000
        return 0.0
