"""The benchmark suite: `python -m benchmarks`. What a job costs here, beside the floor, in one run."""
