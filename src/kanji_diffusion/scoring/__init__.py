"""Judges of a glyph: does a reader recognise it, does it match its caption, is it clean."""
