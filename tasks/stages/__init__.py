"""One Luigi task per stage, and the tasks that need several stages."""
