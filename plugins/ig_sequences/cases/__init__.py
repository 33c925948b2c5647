"""Benchmark cases: formulas, and networks that read letters, measurements, sunspots and speech."""

from ig_sequences.cases import classified, closed_forms, letters, speech, sunspots

CASES = [closed_forms.CASE, letters.CASE, *classified.CASES, sunspots.CASE, speech.CASE]
