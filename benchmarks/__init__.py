"""Benchmarks: what Blush gains and costs, measured; ``python -m benchmarks``."""
