"""What pytest collects here."""

collect_ignore = ["nvrtc.py"]  # it has no tests, and needs CuPy when it is imported
