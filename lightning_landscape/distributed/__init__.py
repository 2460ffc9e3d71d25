"""Several processes: each measures its share of the points, and its step runs in a world of one process."""
