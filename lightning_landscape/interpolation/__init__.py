"""Surfaces from fewer points: refinement from coarse to fine, and splines between the points."""
