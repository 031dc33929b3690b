"""One file per runtime: its own profiler, run on one artifact, with the canonical graph's names for its layers."""
