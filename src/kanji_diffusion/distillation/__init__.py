"""A model that draws in one or two steps what another draws in many."""
