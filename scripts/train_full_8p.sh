#!/usr/bin/env bash
# ModelZoo's train_full_8p.sh: training, export, evaluation and report on the eight cards of a server.
# fse/compat/modelzoo.py implements it; --help lists the options.
#   bash scripts/train_full_8p.sh --data_path=/data/celeba
PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${FSE_PYTHON:-python3}" -m fse.compat.modelzoo full 8p "$@"
