"""Benchmark cases: formulas, and networks that read letters."""

from ig_sequences.cases import closed_forms, letters

CASES = [closed_forms.CASE, letters.CASE]
