# make demo   a real Slurm on this machine, the bridge on it, one project through it
# make test   the whole test suite, but for the cluster of containers:
# make test-compose
# make cluster   a Slurm of several containers and the bridge on it (docker/slurm-cluster)
# make bench  the road of one upload, measured side by side with plain sbatch

# As root the virtual environment lies where the service account can read it.
ifeq ($(shell id -u),0)
VENV ?= /var/lib/nias-bridge/venv
else
VENV ?= .venv
endif

.PHONY: demo cluster test test-compose bench lint

demo:
	@.ci/prepare $(VENV)
	@exec $(VENV)/bin/nias-bridge demo $(ARGS)

cluster:
	@docker compose -f docker/slurm-cluster/compose.yaml up --build --wait $(ARGS)

# Three at a time, file by file, on two cores too: the tests on a real Slurm mostly wait.
test:
	@.ci/prepare $(VENV) test
	@$(MAKE) --no-print-directory lint
	@$(VENV)/bin/pytest -n 3 --dist loadfile --ignore=tests/compose $(ARGS)

# In CI an engine is installed where there is none, and started for the time of the tests. Two files
# at a time, each on a cluster of its own.
test-compose:
	@.ci/prepare $(VENV) test $(if $(CI),engine)
	@$(VENV)/bin/python tests/compose/engine.py \
		$(VENV)/bin/pytest -n 2 --dist loadfile tests/compose $(ARGS)

bench:
	@.ci/prepare $(VENV) test
	@$(VENV)/bin/python benchmarks/road.py $(ARGS)

lint:
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
