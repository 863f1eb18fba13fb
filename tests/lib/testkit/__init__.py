"""Helpers that tests of several files share.

``pythonpath`` in pyproject.toml puts the folder of this package on the path, and nothing of the
checkout beside it. So the tests also run against an installed wheel.
"""
