"""What Rowtrail costs, measured: `python -m benchmarks`. Figures, never pass or fail."""
