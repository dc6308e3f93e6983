"""Cutting artwork out of its ground: the ground as a surface, what is told from it, edges, and how sure that is."""
