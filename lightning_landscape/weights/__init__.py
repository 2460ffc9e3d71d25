"""Weights as one vector: named parameters, planes through them, and parameters that several processes share."""
