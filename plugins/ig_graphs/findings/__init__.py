"""Findings: what results of graphs say when they are ranked, removed, compared or judged."""
