"""The interpreter's own executor tests, run with our class in the place of `ProcessPoolExecutor`."""
