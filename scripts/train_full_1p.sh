#!/usr/bin/env bash
# ModelZoo's train_full_1p.sh: training, export, evaluation and report on one card. fse/compat/modelzoo.py implements it;
# --help lists the options.
#   ASCEND_DEVICE_ID=0 bash scripts/train_full_1p.sh --data_path=/data/celeba
PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${FSE_PYTHON:-python3}" -m fse.compat.modelzoo full 1p "$@"
