"""The loss landscape around the weights while you train with PyTorch Lightning.

Names are loaded on first use (PEP 562), so that importing this package imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

_HOMES = {
    # in a Trainer
    "LossLandscapeCallback": "callback",
    "SharpnessMonitor": "sharpness_monitor",
    # without one
    "LossLandscape": "loss_landscape",
    "LossLandscapeWriter": "writer",
    "sample_landscape": "writer",
    "Recorder": "paths.recorder",
    "Recording": "paths.recording",
    "Bezier": "paths.bezier",
    "train_bezier": "paths.bezier",
    "Alignment": "alignment.align",
    "align": "alignment.align",
    "barriers": "alignment.barriers",
    # values and files
    "BarrierMatrix": "barrier_matrix",
    "Grid": "landscape",
    "Landscape": "landscape",
    "Sample": "landscape",
    "Samples": "landscape",
    "Minimum": "topology",
    "Pass": "topology",
    "Trajectory": "trajectory",
    "Comparison": "comparison",
    "compare": "comparison",
    "Reading": "reading",
    "SharpnessHistory": "sharpness",
    "load_sharpness": "sharpness",
    "Spectrum": "spectrum",
    "Recipe": "recipe",
    "Report": "report",
    "export_paraview": "storage",
    "load": "storage",
    "save": "storage",
    # the core
    "Plane": "weights.plane",
    "Snapshot": "weights.parameters",
    "Between": "directions",
    "Joined": "directions",
    "PCA": "directions",
    "Random": "directions",
    "Site": "directions",
    "Batch": "objectives.base",
    "Objective": "objectives.base",
    "evaluate": "evaluators",
    "HessianOperator": "curvature",
    "proved_hessian": "curvature",
}

__all__ = [*_HOMES]

if TYPE_CHECKING:
    from .alignment.align import Alignment as Alignment
    from .alignment.align import align as align
    from .alignment.barriers import barriers as barriers
    from .barrier_matrix import BarrierMatrix as BarrierMatrix
    from .callback import LossLandscapeCallback as LossLandscapeCallback
    from .comparison import Comparison as Comparison
    from .comparison import compare as compare
    from .curvature import HessianOperator as HessianOperator
    from .curvature import proved_hessian as proved_hessian
    from .directions import PCA as PCA
    from .directions import Between as Between
    from .directions import Joined as Joined
    from .directions import Random as Random
    from .directions import Site as Site
    from .evaluators import evaluate as evaluate
    from .landscape import Grid as Grid
    from .landscape import Landscape as Landscape
    from .landscape import Sample as Sample
    from .landscape import Samples as Samples
    from .loss_landscape import LossLandscape as LossLandscape
    from .objectives.base import Batch as Batch
    from .objectives.base import Objective as Objective
    from .paths.bezier import Bezier as Bezier
    from .paths.bezier import train_bezier as train_bezier
    from .paths.recorder import Recorder as Recorder
    from .paths.recording import Recording as Recording
    from .reading import Reading as Reading
    from .recipe import Recipe as Recipe
    from .report import Report as Report
    from .sharpness import SharpnessHistory as SharpnessHistory
    from .sharpness import load_sharpness as load_sharpness
    from .sharpness_monitor import SharpnessMonitor as SharpnessMonitor
    from .spectrum import Spectrum as Spectrum
    from .storage import export_paraview as export_paraview
    from .storage import load as load
    from .storage import save as save
    from .topology import Minimum as Minimum
    from .topology import Pass as Pass
    from .trajectory import Trajectory as Trajectory
    from .weights.parameters import Snapshot as Snapshot
    from .weights.plane import Plane as Plane
    from .writer import LossLandscapeWriter as LossLandscapeWriter
    from .writer import sample_landscape as sample_landscape


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}.")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
