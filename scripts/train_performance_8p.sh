#!/usr/bin/env bash
# ModelZoo's train_performance_8p.sh: training on the eight cards of a server to measure its speed.
# fse/compat/modelzoo.py implements it; --help lists the options.
#   bash scripts/train_performance_8p.sh --data_path=/data/celeba
PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${FSE_PYTHON:-python3}" -m fse.compat.modelzoo performance 8p "$@"
