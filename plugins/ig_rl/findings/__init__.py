"""Findings: what the attributions of many states say of an agent, when they are put together."""
