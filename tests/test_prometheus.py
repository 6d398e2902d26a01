"""Prometheus' text format, read back by Prometheus' own parser."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from featureid.prometheus import Gauge, find_value, to_text

LABELS = {"output": 'C:\\photos "new"\n', "command": "embed"}


def test_the_text_is_that_of_the_format() -> None:
    gauges = [
        Gauge("images", "Images by outcome.", (({"outcome": "failed"}, 3), (LABELS, 0.5))),
        Gauge("nothing", "Has no samples.", ()),
    ]
    assert to_text(gauges) == (
        "# HELP images Images by outcome.\n"
        "# TYPE images gauge\n"
        'images{outcome="failed"} 3\n'
        'images{command="embed",output="C:\\\\photos \\"new\\"\\n"} 0.5\n'
    )


def test_a_value_is_found_by_all_of_its_labels() -> None:
    text = to_text([Gauge("images", "Images.", ((LABELS, 0.5), ({"command": "embed"}, 2)))])
    assert find_value(text, "images", LABELS) == 0.5
    assert find_value(text, "images", {"command": "embed"}) == 2
    assert find_value(text, "images", {"command": "verify"}) is None
    assert find_value(text, "image", LABELS) is None
    assert find_value(text.replace("0.5", "half"), "images", LABELS) is None


def test_bytes_that_are_not_unicode_are_escaped() -> None:
    text = to_text([Gauge("images", "Images.", (({"output": "caf\udce9"}, 1),))])
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"output": "caf\\udce9"}


@given(st.dictionaries(st.sampled_from("abc"), st.text(), min_size=1), st.floats(-1e12, 1e12))
def test_every_label_and_value_survives(labels: dict[str, str], value: float) -> None:
    text = to_text([Gauge("images", "Images.", ((labels, value),))])
    (family,) = text_string_to_metric_families(text)
    assert (family.name, family.type, family.documentation) == ("images", "gauge", "Images.")
    assert [(sample.labels, sample.value) for sample in family.samples] == [(labels, value)]
    assert find_value(text, "images", labels) == value
