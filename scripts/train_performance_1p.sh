#!/usr/bin/env bash
# ModelZoo's train_performance_1p.sh: training on one card to measure its speed. fse/compat/modelzoo.py implements it;
# --help lists the options.
#   ASCEND_DEVICE_ID=0 bash scripts/train_performance_1p.sh --data_path=/data/celeba
PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${FSE_PYTHON:-python3}" -m fse.compat.modelzoo performance 1p "$@"
