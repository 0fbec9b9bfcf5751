"""Who takes part: one file for each library, `registry.py` with all of them."""
