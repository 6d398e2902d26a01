"""What Beam's metrics say about a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apache_beam.runners.runner import PipelineResult

from featureid.refresh import Changes
from featureid.transforms import metrics

_CHANGES = tuple(Changes().to_dict())


@dataclass(frozen=True)
class RunMetrics:
    """Beam's metrics of a run.

    Attributes:
        counters: counter by name, summed over all workers.
        stages: begin and end of each stage in seconds since 1970, by name, over all workers.
    """

    counters: Mapping[str, int]
    stages: Mapping[str, tuple[float, float]]

    @property
    def changes(self) -> dict[str, int]:
        """What had changed in the inputs."""
        changes = Changes(**{name: self.counters.get(name, 0) for name in _CHANGES})
        return changes.compared(self.counters.get(metrics.SAME_CONTENT, 0)).to_dict()

    @property
    def this_run(self) -> dict[str, int]:
        """Number of images that the run embedded, and that failed in it."""
        return {name: self.counters.get(name, 0) for name in (metrics.EMBEDDED, metrics.FAILED)}

    @property
    def first_image(self) -> float | None:
        """When the first image was embedded, in seconds since 1970; None without one."""
        stage = self.stages.get(metrics.EMBEDDED)
        return stage[0] if stage else None

    @property
    def embed_seconds(self) -> float | None:
        """Seconds from the first image's start to the last embedded image; None without one."""
        stage = self.stages.get(metrics.EMBEDDED)
        return stage[1] - self.stages[metrics.FIRST_WORK][0] if stage else None

    @property
    def images_per_s(self) -> float:
        """Images embedded or failed per second, while images were embedded; 0 without one."""
        if self.embed_seconds is None:
            return 0.0
        return round(sum(self.this_run.values()) / max(self.embed_seconds, 1e-3), 2)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds that each stage took, from its first work to its last, over all workers."""
        timings = {
            name: end - begin
            for name, (begin, end) in self.stages.items()
            if name not in (metrics.FIRST_WORK, metrics.EMBEDDED)
        }
        if self.embed_seconds is not None:
            timings["embed"] = self.embed_seconds
        return {name: round(seconds, 3) for name, seconds in timings.items()}


def run_metrics(result: PipelineResult) -> RunMetrics:
    """Return the metrics of a finished run."""
    return RunMetrics(metrics.query_counters(result), metrics.query_stages(result))
