"""Models in the order of units of another model, and the barriers between many models."""
