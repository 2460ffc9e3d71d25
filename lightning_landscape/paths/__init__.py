"""Paths through weight space: the one that a training took, and curves of low loss between two minima."""
