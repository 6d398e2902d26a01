"""Check the crontab, its script, and the systemd units."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import command_lines
from tests.deploy.programs import BIN, complaints

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
INSTALLED = "/opt/featureid/bin/featureid"
SETTINGS = {f"FEATUREID_{name}" for name in ("PHOTOS", "OUTPUT", "TRIES", "PAUSE_S", "OPTIONS")}
ALERT = 'systemctl status --full --lines=50 "%i" | mail -s "%i failed on %H" '
FOLDERS = {"/opt/featureid/bin", "/usr/local/bin", "/usr/bin", "/bin"}
TARGETS = {"network-online.target", "timers.target"}


def schedule_problems(schedule: str) -> Iterator[str]:
    """Yield the problems of a schedule of plain numbers and stars."""
    fields = schedule.split()
    if len(fields) != len(RANGES):
        yield f"{schedule!r} has {len(fields)} fields, not {len(RANGES)}"
    for field, (low, high) in zip(fields, RANGES, strict=False):
        if field != "*" and not (field.isdigit() and low <= int(field) <= high):
            yield f"{field!r} in {schedule!r} is not {low} to {high}"


def crontab_problems(root: Path) -> Iterator[str]:
    """Yield the problems of the crontab."""
    script = (root / "deploy/cron/featureid-nightly").read_text(encoding="utf-8")
    jobs = 0
    for line in (root / "deploy/cron/featureid").read_text(encoding="utf-8").splitlines():
        setting = re.match(r"(\w+)=(\S+)$", line)
        if setting:
            name, value = setting.groups()
            if name not in ("MAILTO", "PATH") and f"${{{name}:" not in script:
                yield f"the script does not read {name}"
            if name == "PATH" and set(value.split(":")) != FOLDERS:
                yield f"PATH is {value}"
        elif line and not line.startswith("#"):
            jobs += 1
            *schedule, user, program = line.split(maxsplit=6)
            yield from schedule_problems(" ".join(schedule))
            if user != "embedder" or not program.endswith(" >/dev/null"):
                yield f"not the user of the units, or output that is mailed every time: {line}"
            yield from _job_problems(program.removesuffix(" >/dev/null"))
    if jobs != 2:
        yield f"{jobs} jobs, not 2"


def _job_problems(program: str) -> Iterator[str]:
    words = program.split()
    lock = ["flock", "--nonblock", "/srv/ids/.nightly.lock", "featureid-nightly"]
    if words[0] == "featureid":
        wrong = command_lines.is_wrong(words[1:])
        if wrong:
            yield wrong
    elif words != lock:
        yield f"expected {lock}, found {program}"


def script_problems(root: Path) -> Iterator[str]:
    """Yield the complaints of shellcheck, and the problems of the script's behavior."""
    path = root / "deploy/cron/featureid-nightly"
    yield from complaints(BIN / "shellcheck", "--enable=check-unassigned-uppercase", path)
    settings = set(re.findall(r"\$\{(\w+):", path.read_text(encoding="utf-8")))
    if settings != SETTINGS:
        yield f"its settings are {sorted(settings)}"
    yield from _behavior_problems(path)
    for argv in command_lines.find(path.read_text(encoding="utf-8")):
        wrong = command_lines.is_wrong(argv)
        if wrong:
            yield wrong


def _behavior_problems(script: Path) -> Iterator[str]:
    """Run the script with a fake featureid that records its calls and exits as planned."""
    for statuses, status, commands in (
        ([1, 0, 0], 0, ["embed", "embed", "prune"]),
        ([1, 1, 0], 1, ["embed", "embed"]),
        ([3, 0], 3, ["embed"]),
        ([2, 0], 2, ["embed"]),
        ([0, 1], 1, ["embed", "prune"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            planned, calls, options = (Path(folder, name) for name in ("plan", "calls", "options"))
            planned.write_text("".join(f"{number}\n" for number in statuses))
            fake = Path(folder, "featureid")
            fake.write_text(
                f'#!/bin/sh\necho "$1" >>{calls}\n[ "$1" = prune ] || echo "$*" >{options}\n'
                f'status=$(head -n1 {planned})\nsed -i 1d {planned}\nexit "$status"\n'
            )
            fake.chmod(0o755)
            said = complaints(
                script,
                limit_s=5,  # a typo can make it loop forever
                PATH=f"{folder}:/usr/bin:/bin",
                FEATUREID_PHOTOS="photos",
                FEATUREID_OUTPUT="ids",
                FEATUREID_TRIES="2",
                FEATUREID_PAUSE_S="0",
                FEATUREID_OPTIONS="--metrics ids.prom",
            )
            if not options.read_text().endswith(" --metrics ids.prom\n"):
                yield f"it does not pass on FEATUREID_OPTIONS: {options.read_text()}"
            ended = [f"exit status {status}"] if status else []
            if commands[-1] == "embed":
                tries = f"in attempt {len(commands)} of 2"
                ended = [f"featureid embed failed with status {status} {tries}", *ended]
            if (said, calls.read_text().split()) != (ended, commands):
                yield f"with {statuses} it called {calls.read_text().split()} and printed {said}"


def unit_problems(root: Path) -> Iterator[str]:
    """Yield the complaints of ``systemd-analyze``, and names that the units do not agree on."""
    folder = root / "deploy" / "systemd"
    units = sorted(folder.iterdir())
    with tempfile.TemporaryDirectory() as temporary:
        for unit in units:
            text = unit.read_text(encoding="utf-8")
            # The program must exist; in this environment it has another path.
            (Path(temporary) / unit.name).write_text(
                text.replace(f"={INSTALLED} ", f"={BIN / 'featureid'} "), encoding="utf-8"
            )
            yield from _unit_problems(text, {path.name for path in units} | TARGETS)
        # What operations.md adds to it.
        drop_in = Path(temporary) / "featureid.service.d" / "override.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(_drop_in(), encoding="utf-8")
        copies = [Path(temporary) / unit.name for unit in units]
        yield from complaints("systemd-analyze", "verify", *copies)
        calendars = re.findall(
            r"^OnCalendar=(.*)", "\n".join(p.read_text("utf-8") for p in units), re.MULTILINE
        )
        for calendar in calendars:
            said = complaints("systemd-analyze", "calendar", calendar)
            if "Next elapse" not in "".join(said):
                yield f"{calendar} never elapses"
        if len(calendars) != 2:
            yield f"{len(calendars)} calendars, not 2"


def _drop_in() -> str:
    operations = Path(__file__).parents[2] / "docs" / "operations.md"
    (found,) = re.findall(r"^```ini\n(.*?)^```", operations.read_text("utf-8"), re.M | re.S)
    return str(found)


def _unit_problems(text: str, units: set[str]) -> Iterator[str]:
    for name in re.findall(r"^(?:OnFailure|Wants|After|WantedBy)=(.*)", text, re.MULTILINE):
        if name.replace("%n", "") not in units:
            yield f"there is no unit {name}"
    for user in re.findall(r"^User=(.*)", text, re.MULTILINE):
        if user != "embedder":
            yield f"user {user} is not that of the other units"
    embeds = f"={INSTALLED} embed " in text
    if embeds and not re.search(r" \$FEATUREID_OPTIONS$", text, re.MULTILINE):
        yield "it does not pass on FEATUREID_OPTIONS"
    for command in re.findall(rf"^Exec\w+={INSTALLED} (.*)", text, re.MULTILINE):
        wrong = command_lines.is_wrong(command.split())
        if wrong:
            yield wrong
    cache = re.search(r"^CacheDirectory=(\w+)$", text, re.MULTILINE)
    if cache and f"\nEnvironment=FEATUREID_CACHE=/var/cache/{cache[1]}\n" not in text:
        yield f"FEATUREID_CACHE does not name the cache directory {cache[1]}"
    if "%i" in text and ALERT not in text:
        yield "nobody is notified"
    for place in re.findall(r"(?:^ReadWritePaths=|--output |prune |inspect )(\S+)", text):
        if place != "/srv/ids":
            yield f"{place} is not the folder of the other units"
