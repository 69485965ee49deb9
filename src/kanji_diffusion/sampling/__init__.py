"""From a finished model to pictures: drawing, best-of-N, lineage, the exported folder."""
