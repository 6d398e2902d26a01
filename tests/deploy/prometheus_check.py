"""Check the alerts: Prometheus' own promtool evaluates them for metrics that featureid writes."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from featureid.cli import main as cli
from tests.deploy.programs import BIN, complaints
from tests.storage_samples import write_snapshot

OUTPUT = "/srv/ids"
DAY = 24
# A sample's name and labels, and its value.
_SAMPLE = re.compile(r"^(\w+\{.*)\} (\S+)$", re.MULTILINE)


def alert_problems(root: Path) -> Iterator[str]:
    """Yield the complaints of promtool, also about alerts that do not fire as they should."""
    rules = root / "deploy/prometheus/alerts.yml"
    groups = yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]
    if [group["name"] for group in groups] != ["featureid", "featureid-kubernetes"]:
        yield f"the groups are {[group['name'] for group in groups]}"
    severities = {
        rule["alert"]: rule["labels"].get("severity") for group in groups for rule in group["rules"]
    }
    if severities != {name: expected.severity for name, expected in EXPECTED.items()}:
        yield f"the alerts are {severities}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "test.yml")
        file.write_text(yaml.safe_dump(_scenario(rules)), encoding="utf-8")
        lint = ("check", "rules", "--lint=all", "--lint-fatal", rules)
        for command in (lint, ("test", "rules", file)):
            said = complaints(BIN / "promtool", *command)
            if "SUCCESS" not in "".join(said) or "exit status" in "".join(said):
                yield "\n".join(said)


@dataclass(frozen=True)
class Expected:
    """How an alert behaves for the metrics below.

    Attributes:
        severity: its label.
        quiet: hour at which it does not fire yet; -1 for none.
        firing: hour at which it does.
        alerts: the other labels and the summary of each alert then.
    """

    severity: str
    quiet: int
    firing: int
    alerts: tuple[tuple[dict[str, str], str], ...]


_HOST = {"instance": "host", "output": OUTPUT}
_JOBS = ("featureid-fresh", "featureid-nightly")
EXPECTED = {
    "FeatureidFailed": Expected(
        *("warning", -1, 1),
        (
            (
                {**_HOST, "command": "inspect"},
                f"featureid inspect of {OUTPUT} ended with status 3.",
            ),
        ),
    ),
    "FeatureidStale": Expected(
        *("critical", 26, 27),
        ((_HOST, f"The snapshot of {OUTPUT} was last up to date 1d 3h 0m 0s ago."),),
    ),
    "FeatureidFailures": Expected(
        "warning", -1, 1, ((_HOST, f"40% of the images of {OUTPUT} failed."),)
    ),
    "FeatureidNotVerified": Expected(
        *("warning", 8 * DAY, 9 * DAY),
        (({**_HOST, "command": "verify"}, f"{OUTPUT} was last verified 9d 0h 0m 0s ago."),),
    ),
    "FeatureidMissing": Expected(
        "critical", 0, 2, (({}, "No machine has metrics of a snapshot of featureid."),)
    ),
    "FeatureidJobFailed": Expected(
        *("warning", -1, 1),
        tuple(
            (
                {"condition": "true", "job_name": f"{job}-29400000", "namespace": "photos"},
                f"The job photos/{job}-29400000 failed.",
            )
            for job in _JOBS
        ),
    ),
    "FeatureidJobMissing": Expected(
        *("critical", 26, 27),
        tuple(
            (
                {"cronjob": job, "namespace": "photos"},
                f"The job photos/{job} last ended well 1d 3h 0m 0s ago.",
            )
            for job in _JOBS
        ),
    ),
}
KUBERNETES = {
    f'kube_job_failed{{condition="true",job_name="{job}-29400000",namespace="photos"}}': 1
    for job in (*_JOBS, "other")
} | {
    f'kube_cronjob_status_last_successful_time{{cronjob="{job}",namespace="photos"}}': 0
    for job in (*_JOBS, "other")
}


def _scenario(rules: Path) -> dict[str, Any]:
    """Return a test of promtool: every series keeps its value, while the time goes on from 0."""
    hours = 10 * DAY
    series = [
        {"series": name, "values": f"{value:g}+0x{hours}"}
        for name, value in {**_metrics(), **KUBERNETES}.items()
    ]
    missing = {"FeatureidMissing"}
    return {
        "rule_files": [str(rules)],
        "evaluation_interval": "1h",
        "tests": [
            {
                "interval": "1h",
                "input_series": series,
                "alert_rule_test": [
                    *_alert_tests(set(EXPECTED) - missing),
                    {"eval_time": "2h", "alertname": "FeatureidMissing", "exp_alerts": []},
                ],
            },
            {"interval": "1h", "input_series": [], "alert_rule_test": _alert_tests(missing)},
        ],
    }


def _alert_tests(names: set[str]) -> list[dict[str, Any]]:
    tests = []
    for name in sorted(names):
        expected = EXPECTED[name]
        alerts = [
            {
                "exp_labels": {**labels, "severity": expected.severity},
                "exp_annotations": {"summary": summary},
            }
            for labels, summary in expected.alerts
        ]
        for hour, firing in ((expected.quiet, []), (expected.firing, alerts)):
            if hour >= 0:
                tests.append({"eval_time": f"{hour}h", "alertname": name, "exp_alerts": firing})
    return tests


@functools.cache
def _metrics() -> dict[str, float]:
    """Return what ``inspect`` and ``verify`` write of a snapshot in which 2 of 5 images failed.

    The snapshot is in another folder than ``OUTPUT``, and all times are 0, where promtool starts.
    """
    samples = {}
    with tempfile.TemporaryDirectory() as folder:
        write_snapshot(Path(folder, "ids"), ["a", "b", "c"])
        for options in (["inspect", "--max-failure-rate=0.05"], ["verify"]):
            file = Path(folder, "ids.prom")
            cli.main([*options, f"{folder}/ids", "--metrics", str(file)])
            text = file.read_text(encoding="utf-8").replace(f"{folder}/ids", OUTPUT)
            for name, value in _SAMPLE.findall(text):
                at = 0.0 if "_timestamp_seconds{" in name else float(value)
                samples[f'{name},instance="host"}}'] = at
    return samples
