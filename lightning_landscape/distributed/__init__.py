"""Several processes: each measures its share of the points, and a step finds itself in a world of one."""
