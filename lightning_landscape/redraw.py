"""The landscapes of a run drawn once more, all on the scale that the run ended with, and as films."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from .landscape import Landscape
from .loggers import Shown, log
from .output import Files, Look, draw_pictures
from .phases import SILENT, Phases
from .plots import PLOTS
from .plots.film import Film
from .plots.run_scale import RunScale
from .storage import load
from .storage.layout import data_set_names


@dataclass(frozen=True)
class Drawn:
    """The pictures of one landscape of a run.

    Args:
        root: the folder of all landscapes of the run; None without files.
        folder: where its files are; None without files.
        scale: on which the pictures were drawn; None where their files are of an earlier run.
    """

    root: Path | None
    folder: Path | None
    scale: RunScale | None

    @property
    def files(self) -> Files | None:
        """The files that this run may draw anew; None where there are none, or they belong to another run."""
        is_own = self.scale is not None or (self.folder is not None and self.folder.parent == self.root)
        return Files(self.folder) if self.folder is not None and is_own else None


@dataclass(frozen=True, eq=False)
class Redrawn:
    """The files of a run that was drawn once more, and what went wrong.

    Args:
        files: of the films.
        frames: the number of steps in the films.
        failures: the name of each picture, landscape or logger that failed, and why.
        unwritten: the name of each file that could not be written, and why.
        left_out: the steps for which there was no time.
    """

    files: list[Path]
    frames: int
    failures: list[tuple[str, Exception]]
    unwritten: list[tuple[str, Exception]]
    left_out: list[int]


def redraw(
    landscapes: Mapping[int, Landscape | Path],
    drawn: Mapping[int, Drawn],
    look: Look,
    loggers: Iterable[object],
    tag: str = "landscape",
    over: Callable[[], bool] | None = None,
    phases: Phases = SILENT,
) -> Redrawn:
    """Draw the landscapes of a run on one scale, write them and their films, and show these in the loggers.

    Args:
        landscapes: by step, each itself or its file.
        drawn: their pictures, by step.
        look: with the last scale of the run.
        loggers: Lightning loggers.
        tag: of the run in the loggers.
        over: tells whether the time is over; asked before each picture. None for no limit.
        phases: are told of each landscape.
    """
    work = Redrawing(look, over or (lambda: False), phases)
    work.draw(landscapes, drawn)
    films = work.encode()
    files = work.write(drawn[max(drawn)].root, films)
    for step, content in work.shown(tag, films).items():
        work.failures += [(f"the film in {kind}", error) for kind, error in log(loggers, content, step).failed]
    frames = len({step for kind in films for step in work.films[kind].steps})
    return Redrawn(files, frames, work.failures, work.unwritten, sorted(work.left_out))


def coarse_to_fine(count: int) -> list[int]:
    """An order of so many things, in which the first few are spread evenly: the last, the first, the middle.

    >>> coarse_to_fine(6)
    [5, 0, 2, 1, 4, 3]
    """
    order = dict.fromkeys((count - 1, 0)) if count else {}
    pieces = 1
    while len(order) < count:
        pieces *= 2
        order |= dict.fromkeys(round(i * (count - 1) / pieces) for i in range(1, pieces))
    return list(order)


class Redrawing:
    """The landscapes of a run, drawn on its last scale.

    Pictures that are on that scale already are drawn only where a film needs them. Data files are not touched. Steps
    are drawn from coarse to fine: a film that is short of time still shows the whole training.

    Args:
        look: with the run's last scale.
        over: tells whether the time is over; asked before each picture.
        phases: are told of each landscape.
        most_frames: of a film; of more landscapes it shows this many, evenly chosen.

    Attributes:
        films: by the kind of their pictures; all are of the main loss.
        failures: the name of each picture or landscape that failed, and why.
        unwritten: the name of each file that could not be written, and why.
        left_out: the steps for which there was no time.
    """

    def __init__(self, look: Look, over: Callable[[], bool], phases: Phases = SILENT, most_frames: int = 60) -> None:
        self.look, self.over, self.phases, self.most_frames = look, over, phases, most_frames
        self.films: dict[str, Film] = {}
        self.failures: list[tuple[str, Exception]] = []
        self.unwritten: list[tuple[str, Exception]] = []
        self.left_out: list[int] = []
        self._last: Landscape | None = None
        self._changed = False

    def draw(self, landscapes: Mapping[int, Landscape | Path], drawn: Mapping[int, Drawn]) -> None:
        """Draw each landscape, given itself or as its file, by its step."""
        steps = sorted(landscapes)
        frames = {steps[i] for i in np.linspace(0, len(steps) - 1, self.most_frames).round().astype(int)}
        for number, place in enumerate(coarse_to_fine(len(steps)), 1):
            step, given = steps[place], landscapes[steps[place]]
            if self.over():
                self.left_out.append(step)
                continue
            self.phases.tell("drawing on one scale", number, len(steps))
            try:
                self._draw_step(
                    step, given if isinstance(given, Landscape) else load(given), drawn[step], step in frames
                )
            except (OSError, ValueError) as error:
                self.failures.append((f"the landscape of step {step}", error))

    def _draw_step(self, step: int, landscape: Landscape, drawn: Drawn, is_frame: bool) -> None:
        """Draw one landscape: what is on an older scale, and what a film needs."""

        def is_old(kind: str, name: str | None) -> bool:
            before = replace(self.look, scale=drawn.scale).options(landscape, kind, name)
            return drawn.scale is None or before != self.look.options(landscape, kind, name)

        def is_needed(kind: str, name: str | None) -> bool:
            return is_frame and not is_old(kind, name) and name == landscape.main

        files = drawn.files
        names = list(landscape.values)
        for write, selected in ((None if files is None else files.write, is_old), (None, is_needed)):
            pictures = draw_pictures(landscape, self.look, write, names, over=self.over, selected=selected)
            self.failures += pictures.failures
            self.left_out += [step] if pictures.left_out and step not in self.left_out else []
            for (kind, name), pixels in pictures.pixels.items():
                if is_frame and name == landscape.main:
                    self.films.setdefault(kind, Film()).add(step, pixels)
                    self._changed = self._changed or selected is is_old
        self.unwritten += [] if files is None else files.failures
        self._last = self._last or landscape

    def encode(self) -> dict[str, bytes]:
        """The films by kind, as GIF files; a single picture is none."""
        return {kind: film.encode() for kind, film in self.films.items() if len(film.steps) > 1}

    def write(self, root: Path | None, films: Mapping[str, bytes]) -> list[Path]:
        """Write films, given as GIF files, to a folder in the formats of the look; gives their paths."""
        if root is None or self._last is None:
            return []
        stem = data_set_names(self._last.values, longest=50)[self._last.main]
        files, names = Files(root), list[str]()
        for kind, gif in films.items():
            steps = self.films[kind].steps
            for suffix in self.look.films:
                names.append(f"{stem}_{PLOTS[kind].suffix}_steps={steps[0]:06d}-{steps[-1]:06d}.{suffix}")
                other = partial(self.films[kind].encode, f".{suffix}")
                files.write(names[-1], partial(bytes, gif) if suffix == "gif" else other)
        self.unwritten += files.failures
        return [root / name for name in names if name not in dict(files.failures)]

    def shown(self, tag: str, films: Mapping[str, bytes]) -> dict[int, Shown]:
        """Films for the loggers, by step, and the pictures that are in them if the scale has changed."""
        result: dict[int, Shown] = {}
        if not films:
            return result
        steps = sorted({step for kind in films for step in self.films[kind].steps})
        for step in steps if self._changed else steps[-1:]:
            images = {
                f"{tag} one scale/{kind}": self.films[kind].frame(step)
                for kind in films
                if self._changed and step in self.films[kind].steps
            }
            gifs = {f"{tag}/{kind}_film": film for kind, film in films.items()} if step == steps[-1] else {}
            result[step] = Shown(images, {}, films=gifs)
        return result
