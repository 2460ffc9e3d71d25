"""What a spawned process leaves for the one that has started it."""

import gc
import os
import pickle
from pathlib import Path

from lightning_landscape.trainer.handover import Handover

PATHS = {3: Path("/a/step=000003/landscape.h5"), 1: Path("/a/step=000001/landscape.h5")}


def test_the_maker_takes_once_what_a_copy_has_left():
    note = Handover()
    assert note.take() == {}
    copy = pickle.loads(pickle.dumps(note))
    copy.leave({1: PATHS[1]})
    copy.leave(PATHS)
    assert list(note.take().items()) == list(PATHS.items())  # in its order
    assert note.take() == {}
    assert not note.path.exists()


def test_only_the_maker_takes_it_and_takes_it_away(monkeypatch):
    note = Handover()
    path = note.path
    note.leave(PATHS)
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    assert note.take() == {}
    copy = pickle.loads(pickle.dumps(note))
    del copy
    gc.collect()
    assert path.exists()
    monkeypatch.undo()
    del note
    gc.collect()
    assert not path.exists()
