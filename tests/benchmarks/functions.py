"""The functions of the suite by name, and those that nobody tunes on."""

from __future__ import annotations

import formulas
import language
import networks
import untouched

FUNCTIONS = {e.name: e for e in (*language.ENTRIES, *networks.ENTRIES, *formulas.ENTRIES)}
UNTOUCHED = {e.name: e for e in untouched.ENTRIES}
