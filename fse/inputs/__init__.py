"""Inputs of the network: TFRecords read, warped and rendered as views."""
