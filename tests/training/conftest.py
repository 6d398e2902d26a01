from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Keras 3.15 converts TensorFlow's arrays in a way that NumPy 2 discourages.
    for item in items:
        item.add_marker(
            pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
        )
