"""The matplotlib settings of every picture: the library's defaults, and not those of the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import style


@contextmanager
def default_settings() -> Iterator[None]:
    """Matplotlib's defaults inside, the user's settings again afterwards; also a decorator.

    Some settings are read when a figure is made, others when it is drawn or saved. All of that must happen inside.

    >>> import matplotlib
    >>> with matplotlib.rc_context({"font.size": 30}):
    ...     with default_settings():
    ...         inside = matplotlib.rcParams["font.size"]
    ...     inside, matplotlib.rcParams["font.size"]
    (10.0, 30.0)
    """
    with style.context("default"):
        yield
