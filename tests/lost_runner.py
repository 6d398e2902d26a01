"""A runner that accepts a job, but whose answer never arrives."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.direct import DirectRunner


class LostRunner(DirectRunner):  # type: ignore[misc]
    """Writes the job to the file that ``--temp_location`` names."""

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> NoReturn:
        """Accept the job, and fail."""
        job = pipeline.to_runner_api().SerializeToString()
        Path(options.get_all_options()["temp_location"]).write_bytes(job)
        raise ConnectionError("connection reset by peer")


def run_job(path: Path) -> None:
    """Run an accepted job to its end, in this process."""
    job = beam_runner_api_pb2.Pipeline.FromString(path.read_bytes())
    options = PipelineOptions([f"--update_compatibility_version={beam.__version__}"])
    runner = DirectRunner()
    beam.Pipeline.from_runner_api(job, runner, options).run().wait_until_finish()
