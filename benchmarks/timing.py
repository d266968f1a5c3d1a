"""What the benchmarks share: summaries of measured times, and how they are reported."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles of one series of measurements."""

    count: int
    p50_ms: float
    p95_ms: float

    @classmethod
    def of(cls, times_s: Sequence[float]) -> "Summary":
        """Summarise measurements; needs at least two."""
        cuts = statistics.quantiles(times_s, n=20, method="inclusive")
        return cls(len(times_s), p50_ms=round(cuts[9] * 1000, 3), p95_ms=round(cuts[18] * 1000, 3))


def report(
    series: Mapping[str, Summary], *, floor: str, as_json: bool, extra: Mapping[str, float | str] | None = None
) -> None:
    """Print each series and its ratio to the floor's p50 as a table, or everything as one JSON object."""
    ratios = {name: round(summary.p50_ms / series[floor].p50_ms, 2) for name, summary in series.items()}
    if as_json:
        rows = {name: asdict(summary) | {"ratio": ratios[name]} for name, summary in series.items()}
        print(json.dumps({"floor": floor, "series": rows, **(extra or {})}, indent=2))
        return
    print(f"{'':28}{'count':>7}{'p50 ms':>10}{'p95 ms':>10}{'ratio':>8}")
    for name, summary in series.items():
        print(f"{name:28}{summary.count:7}{summary.p50_ms:10.2f}{summary.p95_ms:10.2f}{ratios[name]:8.2f}")
    print(f"ratio: of the p50 to that of {floor!r}")
    for name, value in (extra or {}).items():
        print(f"{name}: {value}")
