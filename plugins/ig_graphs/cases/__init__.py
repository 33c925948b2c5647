"""Benchmark cases of graphs: real ones, and ones whose truth is planted."""

from __future__ import annotations

from ig_graphs.cases import (
    admet,
    benzene,
    crystals,
    infection,
    karate,
    motifs,
    mutag,
    tpsa,
    two_motifs,
)

CASES = [
    karate.CASE,
    benzene.CASE,
    tpsa.CASE,
    mutag.CASE,
    admet.CASE,
    crystals.CASE,
    *motifs.CASES,
    two_motifs.CASE,
    infection.CASE,
]
