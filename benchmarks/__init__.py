"""The benchmark of the project: ``python -m benchmarks``; how to read it stands in docs/benchmarks.md."""
