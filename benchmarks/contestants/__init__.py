"""The contestants: one file for each library, and `registry.py` with all of them."""
