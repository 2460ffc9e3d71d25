"""Closed forms for models that are affine in the weights that move."""
