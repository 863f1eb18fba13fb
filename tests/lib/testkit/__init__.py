"""Helpers that tests in several files share.

``pythonpath`` in pyproject.toml puts the folder of this package on the path, and nothing else of
the checkout. So the tests can also run against an installed wheel.
"""
