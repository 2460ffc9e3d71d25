"""Several runs side by side: whether their planes can be compared, a table of numbers, and their pictures."""

from __future__ import annotations

from .comparison import Comparison, compare, on_one_surface
from .files import find_runs
from .planes import Planes, planes_of
from .table import aligned

__all__ = ["Comparison", "Planes", "aligned", "compare", "find_runs", "on_one_surface", "planes_of"]
