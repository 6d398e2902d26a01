"""A real S3 server that a test can make refuse requests, and the command on top of it."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from featureid.cli import main as cli

BUCKET = "photos"


@dataclass
class S3:
    """A running S3 server that counts requests and can refuse some of them."""

    endpoint: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    refuse: Callable[[str, str], bool] = lambda method, path: False

    def middleware(self, app: Any) -> Any:
        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            self.requests[f"{method} {path}"] += 1
            if self.refuse(method, path):
                start_response("503 Slow Down", [("Content-Type", "text/xml")])
                return [b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"]
            return app(environ, start_response)

        return answer


def embed(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    status = cli.main(["embed", *argv, "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    summary: dict[str, Any] = json.loads(captured.out)
    return summary
