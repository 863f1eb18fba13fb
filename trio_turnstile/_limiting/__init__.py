"""Limiters, and what moves them."""
