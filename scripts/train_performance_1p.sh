#!/usr/bin/env bash
# ModelZoo's train_performance_1p.sh: one card, training only, for its speed. --help lists the options; fse/compat/modelzoo.py does it.
#   ASCEND_DEVICE_ID=0 bash scripts/train_performance_1p.sh --data_path=/data/celeba
PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${FSE_PYTHON:-python3}" -m fse.compat.modelzoo performance 1p "$@"
