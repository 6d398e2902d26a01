import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions, StreamingOptions

from featureid.errors import UsageError
from featureid.jobs.beam_options import is_local, split_beam_options


def test_values_of_beam_options_are_not_taken_for_inputs() -> None:
    options, rest = split_beam_options(
        ["photos", "--direct_num_workers", "2", "--output", "out", "--job_name", "photos", "more"]
    )
    assert rest == ["photos", "--output", "out", "more"]
    assert options.view_as(DirectOptions).direct_num_workers == 2


@pytest.mark.parametrize("runner", ["", "DirectRunner", "directrunner", "DIRECT", "FnApiRunner"])
def test_local_runs_stay_off_the_engine_that_is_downloaded(runner: str) -> None:
    options, _ = split_beam_options([f"--runner={runner}"] if runner else [])
    assert is_local(options)
    assert options.view_as(StandardOptions).runner == "DirectRunner"
    assert options.view_as(StreamingOptions).update_compatibility_version == beam.__version__


def test_other_runners_are_left_alone() -> None:
    options, _ = split_beam_options(["--runner=FlinkRunner", "--flink_version=1.20"])
    assert not is_local(options)
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    assert options.view_as(StreamingOptions).update_compatibility_version is None


def test_unknown_options_are_left_to_the_caller() -> None:
    assert split_beam_options(["--direct_num_worker=2"])[1] == ["--direct_num_worker=2"]


def test_a_bad_value_is_refused() -> None:
    with pytest.raises(UsageError, match="Beam option: argument --direct_num_workers"):
        split_beam_options(["--direct_num_workers=two"])


def test_options_that_only_flinks_job_server_knows_pass() -> None:
    options, rest = split_beam_options(
        ["--runner=FlinkRunner", "--number_of_execution_retries=2", "--parallelism=4", "photos"]
    )
    assert rest == ["photos"]
    # As Beam collects them for the job server.
    sent = options.get_all_options()
    assert (sent["number_of_execution_retries"], sent["parallelism"]) == (2, 4)
    assert sent["object_reuse"] is None and sent["execution_mode_for_batch"] is None


def test_a_misspelt_option_of_flink_is_left_to_the_caller() -> None:
    argv = ["--runner=FlinkRunner", "--number_of_execution_retry=2", "--paralelism=4"]
    assert split_beam_options(argv)[1] == argv[1:]


def test_an_option_of_flink_is_refused_elsewhere() -> None:
    with pytest.raises(UsageError, match="--execution_retry_delay is an option of Flink"):
        split_beam_options(["--execution_retry_delay=1000"])
