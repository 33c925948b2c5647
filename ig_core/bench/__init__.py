"""The cross-domain benchmark: cases, a journal that survives a kill, a runner and a page."""
