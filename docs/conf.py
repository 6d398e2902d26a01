"""The documentation site: ``make docs`` builds it from the Markdown files of the repository.

The sources are read from the root, so that README.md is the front page and every relative link
works in the repository and on the site alike.
"""

from __future__ import annotations

import logging

from sphinx.application import Sphinx

from featureid import __version__

project = "featureid"
author = "the featureid authors"
project_copyright = f"%Y, {author}"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md"]
exclude_patterns = [".*", "build", "demo", "docs/_build"]

# Only our own names are checked: without a network there is no inventory of others'.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!featureid\b).*")]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"featureid {release}"
html_extra_path = ["site"]

_CONTENTS = """
```{toctree}
:hidden:

docs/install
docs/running
docs/models
docs/faces
docs/matching
docs/report
docs/training
docs/evaluation
docs/nightly
docs/recipes
docs/operations
docs/security
docs/flink
docs/beam
docs/cli
docs/api
docs/format
CONTRIBUTING
CHANGELOG
```
"""


def _append_contents(app: Sphinx, document: str, source: list[str]) -> None:
    """Give the front page the table of contents, which README.md itself cannot have."""
    if document == root_doc:
        source[0] += _CONTENTS


def _quiet_imports(app: Sphinx) -> None:
    """Silence Beam, which logs at its import; the theme's dependencies have turned the log on."""
    logging.getLogger().setLevel(logging.ERROR)


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("builder-inited", _quiet_imports)
    app.connect("source-read", _append_contents)
