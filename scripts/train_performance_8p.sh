#!/usr/bin/env bash
# ModelZoo's train_performance_8p.sh: the eight cards of a server, training only, for its speed. --help lists the options; fse/compat/modelzoo.py does it.
#   bash scripts/train_performance_8p.sh --data_path=/data/celeba
PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${FSE_PYTHON:-python3}" -m fse.compat.modelzoo performance 8p "$@"
