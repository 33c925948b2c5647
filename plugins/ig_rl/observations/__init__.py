"""Observations: spaces of every kind as tensors on a path, with names, units and values."""
