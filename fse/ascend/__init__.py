"""Tools of Huawei Ascend: session options, rank tables, npu-smi and the offline model."""
