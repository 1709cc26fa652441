"""`fse doctor`: checks whether this machine can run an experiment, each failure with what to do about it."""
