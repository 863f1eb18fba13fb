"""Integrations with other libraries, one module for each; each has an extra for pip."""
