"""The library of "Multi-backend CI" has options of its own, and is tested by test_multi_backend.py."""

collect_ignore = ["how-to/multi-backend"]
