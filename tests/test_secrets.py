"""Secrets given to a run in any way are in no file that it writes, and in nothing it prints."""

import gzip
import importlib.util
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, SetupOptions
from apache_beam.transforms.environments import ExternalEnvironment

import featureid
from featureid.errors import UsageError
from featureid.inputs import InputSource
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.embed import describe_run
from featureid.jobs.options import EmbedOptions
from featureid.jobs.run_record import BEAM_OPTIONS, new_record
from featureid.jobs.worker_pool import TOKEN_VARIABLE
from featureid.storage.results import ResultSource, new_result_info
from tests.commands import FEATUREID, ROOT, run_here
from tests.storage_samples import ID, make_info

#: Stands in every secret.
SECRET = "Pl4ntedS3cret"
UNREADABLE = (
    f"https://user:{SECRET}@127.0.0.1:9/a.jpg?v=1&X-Amz-Security-Token={SECRET}&X-Amz-Signature=0",
    f"https://{SECRET}@127.0.0.1:9/b.jpg?id=2&sig={SECRET}&sv=2024-11-04&sp=r",
    f"s3://AKIA:{SECRET}/{SECRET}+@bucket/c.jpg",
    "s3://bucket/d.jpg",  # signed with secrets
)
KEYS = [
    "https://127.0.0.1:9/a.jpg?v=1",
    "https://127.0.0.1:9/b.jpg?id=2",
    "s3://bucket/c.jpg",
    "s3://bucket/d.jpg",
]


@pytest.fixture(scope="module")
def output(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run that was given secrets; what it printed is in ``printed``."""
    folder = tmp_path_factory.mktemp("secrets")
    photo = photos / "small" / "coffee.jpg"
    (folder / "list.txt").write_text("\n".join([str(photo), *UNREADABLE]))
    (folder / "aws").write_text(
        f"[default]\naws_access_key_id = AKIA\naws_secret_access_key = {SECRET}\n"
        f"aws_session_token = {SECRET}\n"
    )
    (folder / "fsspec").mkdir()
    once = {"retries": {"total_max_attempts": 1}}
    store = {"key": "AKIA", "secret": SECRET, "token": SECRET, "config_kwargs": once}
    (folder / "fsspec" / "conf.json").write_text(json.dumps({"s3": store}))
    connection = f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET}"
    done = subprocess.run(
        [
            *(*FEATUREID, "embed", "--manifest", folder / "list.txt", "--output", folder / "out"),
            *("--log-level=debug", "--json", "--metrics", folder / "out.prom"),
            *(f"--s3_secret_access_key={SECRET}", "--s3_session_token", SECRET),
            *(f"--azure_connection_string={connection}", f"--profiler_extra_env_var=K={SECRET}"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": SECRET,
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws"),
            "AZURE_STORAGE_CONNECTION_STRING": connection,
            "FSSPEC_CONFIG_DIR": str(folder / "fsspec"),
        },
        capture_output=True,
        text=True,
    )
    (folder / "out" / "printed").write_text(done.stdout + done.stderr)
    (folder / "out.prom").rename(folder / "out" / "metrics")
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_no_file_of_a_run_and_nothing_that_it_prints_has_a_secret(output: Path) -> None:
    paths = [path for path in output.rglob("*") if path.is_file()]
    names = {path.name.split("-")[0] for path in paths}
    assert names >= {"embeddings", "failures", "run.json", "manifest.json", "printed", "metrics"}
    for path in paths:
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        assert SECRET.encode() not in text, path
    printed = (output / "printed").read_text()
    assert "--s3_secret_access_key is left out" in printed
    options = json.loads(next(output.glob("snapshots/*/run.json")).read_text())["options"]
    assert {*options["beam"]} <= BEAM_OPTIONS and options["beam"]["runner"] == "DirectRunner"


def test_keys_of_images_that_could_not_be_read_name_them_without_secrets(output: Path) -> None:
    failures = {item.key: item.message for item in featureid.open_snapshot(output).failures()}
    assert sorted(failures) == KEYS
    assert not any(SECRET in message for message in failures.values())


def test_commands_and_pages_about_it_have_none(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert SECRET not in run_here(capsys, "inspect", output, "--failures", "--json")
    assert SECRET not in run_here(capsys, "report", output, "--output", tmp_path / "page.html")
    assert SECRET not in (tmp_path / "page.html").read_text()
    place = f"https://user:{SECRET}@127.0.0.1:9/out?sig={SECRET}"
    assert SECRET not in run_here(capsys, "verify", place, status=2 if no_web() else 1)
    assert SECRET not in run_here(capsys, "verify", output, f"--tokn={SECRET}", status=2)
    assert SECRET not in run_here(capsys, "verify", output, "--tokn", SECRET, status=2)


def no_web() -> bool:
    return importlib.util.find_spec("aiohttp") is None


def test_what_explains_a_run_is_recorded(photos: Path, tmp_path: Path) -> None:
    source = InputSource(str(photos), strip_prefix=f"https://u:{SECRET}@h/photos")
    options = EmbedOptions((source,), str(tmp_path / "out"))
    _, _, info, _ = describe_run(options)
    beam_options = PipelineOptions(
        ["--runner=FlinkRunner", "--parallelism=4", f"--s3_session_token={SECRET}"]
    )
    assert info.locations.root == "https://h/photos"
    recorded = new_record(info, options, beam_options).options
    assert recorded["beam"] == {"runner": "FlinkRunner", "parallelism": 4}
    assert recorded["sources"][0]["strip_prefix"] == "https://h/photos"


def test_results_name_their_sources_without_secrets() -> None:
    folder = f"https://user:{SECRET}@host/out/snapshots/{ID}"
    model, now = make_info().model, datetime.now(UTC)
    sources = {"query": ResultSource(folder, ID, 1)}
    info = new_result_info("matches", ID, now, model, sources, {}, ())
    assert info.sources["query"].folder == f"https://host/out/snapshots/{ID}"


def test_options_with_secrets_are_not_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    options, rest = split_beam_options(
        ["photos", "--s3_access_key_id=AKIA", "--s3_secret_access_key", SECRET, "--job_name=n"]
    )
    assert rest == ["photos"]
    given = options.get_all_options(drop_default=True)
    assert given["job_name"] == "n" and SECRET not in str(given) and "AKIA" not in str(given)
    assert options.view_as(SetupOptions).beam_plugins == ["featureid.transforms"]
    assert [record.args for record in caplog.records] == [
        ("s3_access_key_id",),
        ("s3_secret_access_key",),
    ]


@pytest.mark.parametrize(
    ("config", "params"),
    [
        ("localhost:50000", {"token": SECRET}),
        ('{"url": "localhost:50000"}', {"token": SECRET}),
        ('{"url": "localhost:50000", "params": {"token": "own"}}', {"token": "own"}),
    ],
)
def test_beam_carries_the_token_of_a_worker_pool(
    config: str, params: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    argv = ["--runner=PortableRunner", "--job_endpoint=x", "--environment_type=external"]
    options, _ = split_beam_options([*argv, f"--environment_config={config}"])
    environment = ExternalEnvironment.from_options(options.view_as(PortableOptions))
    assert (environment.url, environment.params) == ("localhost:50000", params)
    assert "environment_config" not in BEAM_OPTIONS


def test_a_wrong_configuration_of_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    with pytest.raises(UsageError, match="--environment_config is not valid JSON") as caught:
        split_beam_options(["--environment_type=EXTERNAL", '--environment_config={"url": '])
    assert SECRET not in str(caught.value)
