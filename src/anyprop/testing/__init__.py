"""The library's contract, to be run against any Array API namespace.

`check_backend` runs it and reports; `pytest --pyargs anyprop.testing` runs it as tests, on the namespace
that the environment variable ``ANYPROP_BACKEND`` names.
"""
