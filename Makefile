# Two commands do everything from a fresh clone: `make demo` and `make test`.
# PYTHON may name another interpreter (3.10 to 3.13), VENV another place for the environment.
PYTHON ?= python3
VENV ?= .venv
IMAGES ?=
INSTALLED = $(VENV)/.installed
# Flink has an environment of its own, since it wants an old Beam; it is kept between runs.
FLINK_VENV ?= .venv-flink
BEAM_VERSION = 2.77.0
PRISM ?= $(CURDIR)/$(FLINK_VENV)/bin/prism

.PHONY: demo test store-test deploy-test package-test soak flink flink-test prism-test check format bench fuzz \
	clean

demo: $(INSTALLED)  ## embed real pictures and show the result; IMAGES=FOLDER takes your own
	$(VENV)/bin/python demo.py $(if $(IMAGES),--images "$(IMAGES)")

test: $(INSTALLED)  ## run the tests
	$(VENV)/bin/python -m pytest

store-test: $(VENV)/.stores  ## S3 and GCS, against real servers on this machine
	$(VENV)/bin/python -m pytest tests/stores

package-test: $(INSTALLED)  ## build the sdist and the wheel, install the wheel, run it
	$(VENV)/bin/python -m pytest tests/package

soak: $(INSTALLED)  ## the tests that take long: runs killed at every point
	$(VENV)/bin/python -m pytest -m soak

flink-test: $(VENV)/.stores $(FLINK_VENV)/.installed  ## a real Flink cluster
	FLINK_HOME="$(FLINK_VENV)/flink" FLINK_JOB_SERVER_JAR="$(FLINK_VENV)/job-server.jar" \
	$(VENV)/bin/python -m pytest -s tests/flink/test_flink*.py

flink: $(FLINK_VENV)/.installed  ## install Flink, and Beam's job server for it, for flink-test

prism-test: $(INSTALLED) $(PRISM)  ## the same on Prism, Beam's portable engine, built with Go
	PRISM="$(PRISM)" $(VENV)/bin/python -m pytest -s tests/flink/test_prism.py

check: $(INSTALLED)  ## format, lint, types, links in the docs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q tests/test_docs.py

DEPLOY_VENV ?= .venv-deploy
AIRFLOW_VENV ?= .venv-airflow
# What checks Kubernetes' FlinkDeployment: the operator's schema, and Flink's names of options.
DEPLOY_JARS = flink-kubernetes-operator-api:1.10.0 flink-core:1.20.5

deploy-test: $(DEPLOY_VENV)/.installed $(AIRFLOW_VENV)/.installed  ## check the files under deploy/ (needs Maven)
	for jar in $(DEPLOY_JARS); do \
		mvn --quiet dependency:get -Dartifact=org.apache.flink:$$jar -Dtransitive=false || exit 1; \
	done
	AIRFLOW_PYTHON=$(AIRFLOW_VENV)/bin/python $(DEPLOY_VENV)/bin/python -m pytest tests/deploy

$(DEPLOY_VENV)/.installed: setup.py tests/deploy/requirements.txt
	$(PYTHON) -m venv $(DEPLOY_VENV)
	$(DEPLOY_VENV)/bin/python -m pip install --quiet --editable '.[gcp,test]' \
		--requirement tests/deploy/requirements.txt
	touch $@

$(AIRFLOW_VENV)/.installed: tests/deploy/requirements-airflow.txt
	$(PYTHON) -m venv $(AIRFLOW_VENV)
	$(AIRFLOW_VENV)/bin/python -m pip install --quiet --requirement $<
	touch $@

format: $(INSTALLED)  ## format the code, update docs/cli.md
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/python docs/generate_cli.py

bench: $(INSTALLED)  ## the benchmarks behind the published figures (some minutes)
	$(VENV)/bin/python benchmarks/embed.py
	$(VENV)/bin/python benchmarks/format.py
	$(VENV)/bin/python benchmarks/nightly.py

fuzz: $(INSTALLED)  ## read damaged and forged files with every reader, 100,000 each (20 minutes)
	$(VENV)/bin/python -m tests.fuzz --runs 100000

clean:  ## remove what the targets above made, the environment included
	rm -rf $(VENV) $(FLINK_VENV) $(DEPLOY_VENV) $(AIRFLOW_VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.stores: $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet --editable '.[test,aws]' gcsfs 'moto[server]' \
		gcp-storage-emulator
	touch $@

$(FLINK_VENV)/.installed: tests/flink/install tests/flink/job-server.xml
	$(PYTHON) -m venv $(FLINK_VENV)
	tests/flink/install $(FLINK_VENV) $(BEAM_VERSION)
	touch $@

$(CURDIR)/$(FLINK_VENV)/bin/prism:
	GOBIN=$(@D) go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM_VERSION)
