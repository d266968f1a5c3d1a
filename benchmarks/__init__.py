"""Measurements of the product beside a floor. `uv run python -m benchmarks` names them; see README.md."""
