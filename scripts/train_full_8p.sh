#!/usr/bin/env bash
# ModelZoo's train_full_8p.sh: the eight cards of a server, training, export, evaluation and report. --help lists the options; fse/compat/modelzoo.py does it.
#   bash scripts/train_full_8p.sh --data_path=/data/celeba
PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${FSE_PYTHON:-python3}" -m fse.compat.modelzoo full 8p "$@"
