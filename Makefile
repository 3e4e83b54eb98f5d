# Everything a newcomer needs: `make demo` shows the main job, `make test` runs the tests.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# One fixed version: an open range would fetch whatever build is newest, with gigabytes of CUDA.
TORCH := 2.13.0
STAMP := $(VENV)/.installed
# The reader's page of `hounsfield serve`.
PAGE := src/hounsfield/serving/static/index.html
TORCH_STAMP := $(VENV)/.installed-torch

.PHONY: install install-torch demo test test-torch check clean

install: $(STAMP) $(PAGE)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[tensorflow,jax,onnx,openvino,report,serve,mlflow,wandb,ray,cloud,tune,imagenet,int8,dev]'
	# Of the extra "hub" what images need: the rest brings a second TensorFlow beside that for CPUs.
	$(BIN)/python -m pip install --quiet --no-deps 'keras-hub>=0.32' 'tokenizers>=0.20'
	touch $@

$(PAGE): $(STAMP) $(shell find viewer -name node_modules -prune -o -type f -print)
	scripts/viewer build

install-torch: $(TORCH_STAMP)

$(TORCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet 'torch==$(TORCH)'
	touch $@

demo: $(STAMP)
	$(BIN)/hounsfield demo

test: $(STAMP) $(PAGE)
	scripts/test tensorflow jax

test-torch: $(TORCH_STAMP)
	scripts/test torch

check: $(STAMP)
	scripts/check

clean:
	rm -rf $(VENV) dist runs viewer/node_modules $(dir $(PAGE))
