"""Benchmark cases of graphs: real ones, and ones whose truth is planted."""

from __future__ import annotations

from ig_graphs.cases import benzene, karate, tpsa

CASES = [karate.CASE, benzene.CASE, tpsa.CASE]
