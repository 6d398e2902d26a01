"""The Flex Template offers every option of `featureid embed` that makes sense there.

`make deploy-test` checks its metadata with Google's client.
"""

import argparse
import json
from pathlib import Path

from featureid.cli import embed

METADATA = Path(__file__).parents[1] / "deploy" / "dataflow" / "metadata.json"
#: Options of ``featureid embed`` that the template does not offer, and why.
LEFT_OUT = {
    "help": "the template has its own",
    "json": "nobody reads what the launcher prints",
    "log-level": "it would be that of the launcher, not of the workers",
    "metrics": "the launcher ends before the run; featureid inspect writes them for any runner",
    "no-wait": "the launcher always adds it",
}


def embed_options() -> dict[str, argparse.Action]:
    """Return the options of ``featureid embed`` by name, without those of Beam, in their order."""
    parser = embed.make_parser("featureid embed")
    actions = [action for group in parser._action_groups for action in group._group_actions]
    longs = {action.option_strings[-1]: action for action in actions if action.option_strings}
    return {name.removeprefix("--"): action for name, action in longs.items()}


def test_the_template_has_every_option_or_it_is_known_why_not() -> None:
    metadata = json.loads(METADATA.read_text(encoding="utf-8"))
    offered = [parameter["name"] for parameter in metadata["parameters"]]
    options = embed_options()
    assert set(LEFT_OUT) <= set(options) and all(LEFT_OUT.values())
    assert offered == [name for name in options if name not in LEFT_OUT]


def test_the_template_offers_the_choices_of_the_parser() -> None:
    options = embed_options()
    for parameter in json.loads(METADATA.read_text(encoding="utf-8"))["parameters"]:
        choices = [option["value"] for option in parameter.get("enumOptions", [])]
        assert choices == list(options[parameter["name"]].choices or ())
