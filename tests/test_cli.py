"""The command line: wrong use gets one clear line and its exit status, never a stack trace."""

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from apache_beam.runners.portability.stager import Stager

from featureid import __version__
from featureid.cli import console
from featureid.cli import main as cli
from featureid.errors import FeatureIdError, UsageError
from featureid.jobs.beam_errors import as_known_error

ROOT = Path(__file__).parents[1]


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    status = cli.main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    assert captured.out == ""
    return status, captured.err


@pytest.fixture
def file_in_the_way(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("not a folder")
    return path


def test_wrong_use_is_one_clear_line(
    photos: Path, tmp_path: Path, file_in_the_way: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "list.csv").write_text("path\na.jpg\n")
    out = ("--output", tmp_path / "out")
    cases: list[tuple[Sequence[object], int, str]] = [
        (["embed", tmp_path / "nowhere", *out], 2, "no such file or folder"),
        (["embed", tmp_path / "nothing", *out], 2, "holds no file"),
        (["embed", tmp_path / "*.jpg", *out], 2, "matches no file"),
        (["embed", *out], 2, "no input"),
        (["embed", photos], 2, "required: --output"),
        (["embed", photos, "--output", file_in_the_way / "out"], 1, "is a file"),
        (["embed", photos, *out, "--model", "imagine"], 2, "unknown model 'imagine'"),
        (["embed", photos, *out, "--model", "none.fidmodel"], 1, "none.fidmodel"),
        (["embed", photos, *out, "--num-shards", "0"], 2, "--num-shards is 0"),
        (["embed", photos, *out, "--num-shards", "x"], 2, "invalid int value: 'x'"),
        (["embed", photos, *out, "--threads", "-3"], 2, "threads is -3"),
        (["embed", photos, *out, "--max-pixels", "0"], 2, "--max-pixels is 0"),
        (["embed", photos, *out, "--max-failure-rate", "7"], 2, "--max-failure-rate is 7.0"),
        (["embed", photos, *out, "--no-wait"], 2, "a local run ends with its command"),
        (["embed", photos, *out, "--embed-hint", "min_ram"], 2, "give NAME=VALUE"),
        (["embed", photos, *out, "--embed-hint", "color=red"], 2, "Unknown resource hint: color"),
        (["embed", photos, *out, "--embed-hint", "min_ram=much"], 2, "--embed-hint"),
        (
            ["embed", photos, *out, "--direct_num_worker=2"],
            2,
            "arguments: --direct_num_worker (see",
        ),
        (["embed", photos, *out, "--direct_num_workers=two"], 2, "'two'"),
        (["embed", photos, *out, "--runner=nonsense"], 2, "runner nonsense cannot be used"),
        (["embed", photos, *out, "--runner=a.b.Runner"], 2, "No module named 'a'"),
        (["embed", photos, *out, "--runner=Dataflow"], 2, "Missing required option: project"),
        (["embed", photos, *out, "--runner=PortableRunner"], 2, "add --job_endpoint=HOST:PORT"),
        (["embed", "--manifest", tmp_path / "list.csv", "--column", "uri", *out], 2, "no column"),
        (["embed", "--manifest", tmp_path / "none.csv", *out], 2, "No such file"),
        (["inspect", tmp_path / "nowhere"], 1, "does not exist"),
        (["inspect", tmp_path, "--max-age", "26"], 2, "invalid duration '26'"),
        (["verify", tmp_path / "nothing"], 1, "no complete snapshot"),
        (["models", "describe", "imagine"], 2, "unknown model"),
        (["models", "lst"], 2, "invalid choice: 'lst'; did you mean 'list'?"),
        (["compare", photos / "coffee.png", "gone.jpg"], 1, "gone.jpg: no such file"),
        (["faces", "gone.jpg"], 1, "gone.jpg: no such file"),
        (
            ["worker-pool", "--allow-root", "--port=99999"],
            2,
            "--port is 99999; give 0 (any free one) to 65535",
        ),
        (["models", "describe", "imgae"], 2, "did you mean 'image'?"),
        (["emb"], 2, "invalid choice: 'emb'; did you mean 'embed'?"),
        (["zzz"], 2, "invalid choice: 'zzz'; choose from embed, plan, inspect, "),
        (["embed", photos, *out, "--dtype=float15"], 2, "did you mean 'float16'?"),
        (["embed", photos, *out, "--max-pixel=3"], 2, "did you mean '--max-pixels'? (see f"),
        (["verify", photos, "--jsn"], 2, "did you mean '--json'?"),
        ([], 2, "required: COMMAND"),
    ]
    for argv, status, message in cases:
        found_status, err = run(capsys, *argv)
        assert err.count("\n") == 1 and err.startswith("featureid: "), err
        assert message in err
        assert found_status == status, err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that root cannot write")
def test_an_output_that_cannot_be_written_is_refused(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, err = run(capsys, "embed", photos, "--output", "/proc/featureid")
    assert status == 1 and "/proc/featureid" in err and err.count("\n") == 1


def test_the_installed_command_knows_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "featureid", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"featureid {__version__}\n"


def test_models_lists_and_describes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--json"]) == 0
    listed, *others = json.loads(capsys.readouterr().out)["models"]
    assert listed["name"] == "image"
    assert [other["name"] for other in others] == ["face", "image-int8", "face-int8"]
    assert cli.main(["models", "describe", "image", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["digest"] == listed["digest"]
    assert described["dimension"] == 128


def test_an_error_that_beam_has_wrapped_is_still_known() -> None:
    wrapped = RuntimeError(
        "Traceback (most recent call last):\n  File ...\n"
        "featureid.errors.StorageError: Cannot write a: No space left [while running 'Write/x']\n"
    )
    known = as_known_error(wrapped)
    assert type(known) is FeatureIdError
    assert str(known) == "Cannot write a: No space left"


def test_a_package_for_workers_that_cannot_be_built_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("raise SystemExit('unusable metadata\\nand more')")
    with pytest.raises(RuntimeError) as beams:
        Stager._build_setup_package(str(tmp_path / "setup.py"), str(tmp_path / "sdist"))
    known = as_known_error(beams.value)
    assert "setup.py sdist" in str(known) and "'setuptools>=77'" in str(known)
    assert len(str(known).splitlines()) == 1


def test_a_bug_keeps_its_stack_trace_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise ZeroDivisionError("a bug at https://user:SECRET@host/a.jpg")

    assert console.run_command(command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: a bug at https://host/a.jpg"


def test_an_interrupt_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    def wrapped() -> int:
        try:
            return command()
        except KeyboardInterrupt:
            raise RuntimeError("KeyboardInterrupt [while running 'Embed']")  # noqa: B904

    for interrupted in (command, wrapped):
        assert console.run_command(interrupted) == 130
        assert capsys.readouterr().err == "featureid: interrupted\n"


def test_signals_interrupt_a_command_unless_they_are_ignored(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def send(number: signal.Signals) -> int:
        os.kill(os.getpid(), number)
        return 0

    for number in (signal.SIGTERM, signal.SIGHUP):
        assert console.run_command(functools.partial(send, number)) == 130
        assert signal.getsignal(number) == signal.SIG_DFL
        assert capsys.readouterr().err == "featureid: interrupted\n"
        signal.signal(number, signal.SIG_IGN)  # as nohup does
        try:
            assert console.run_command(functools.partial(send, number)) == 0
        finally:
            signal.signal(number, signal.SIG_DFL)


def test_a_parser_error_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"unrecognized arguments: --nonsense"):
        console.Parser(prog="x").parse_args(["--nonsense"])


@pytest.mark.parametrize("command", sorted(set(cli.COMMANDS) - {"models", "worker-pool"}))
def test_an_empty_argument_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As from a variable of a shell that is not set."""
    parser = cli.load_command(command).make_parser(command)
    places = [action for action in parser._actions if not action.option_strings]
    assert places
    for place in places:
        arguments = [
            "" if action is place else "x"
            for action in places
            for _ in range(action.nargs if isinstance(action.nargs, int) else 1)
        ]
        required = {
            "calibrate": ["--far=1e-3"],
            "export": ["--to=npy"],
            "models add": ["--name=x"],
            "prune": ["--keep=1"],
            "search": ["--query=x"],
            "train": ["--output=x.fidmodel"],
        }
        output = ["--output=x"] if command in ("embed", "plan", "import") else []
        line = [*command.split(), *arguments, *required.get(command, []), *output]
        status, err = run(capsys, *line)
        assert status == 2
        assert f"argument {place.metavar} is empty; is a variable not set?" in err


def test_a_place_is_named_once(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, err = run(capsys, "compare", photos / "astronaut.png", "no-store://b/x.jpg")
    assert status == 2 and err.count("no-store://b/x.jpg") == 1
