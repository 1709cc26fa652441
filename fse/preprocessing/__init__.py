"""Preparation of images: crops of one size, packed into TFRecord shards."""
