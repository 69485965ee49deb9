"""Glyph data: the dictionary, font faces and their audit, rendering, captions and the split.

This file imports nothing, so that the child processes that draw start quickly (see `worker`).
"""
