"""Benchmarks against the peers, all in one run; see `python -m tests.benchmarks --help`."""
