"""Figures and pictures that say whether the samples are the kanji that were asked for."""
