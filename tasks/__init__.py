"""Luigi tasks: one per stage, commands, and the nightly.

No module here imports TensorFlow, pandas, Matplotlib, Jinja2 or Pillow when it is loaded: a scheduling process stays
small, starts fast and uses no device.
"""
