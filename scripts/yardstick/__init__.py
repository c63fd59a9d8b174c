"""The measures behind `scripts/quality.py`."""
