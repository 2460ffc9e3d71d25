"""The whole suite on the oldest and the newest of everything that is supported: ``pip install nox && nox``."""

import nox

nox.options.error_on_missing_interpreters = True
OLDEST = ("torch==2.2.0", "torchvision==0.17.0", "lightning==2.2.0", "pytorch-lightning==2.2.0", "numpy<2")


@nox.session(python="3.10")
def oldest(session: nox.Session) -> None:
    """The oldest Python, torch and Lightning."""
    # torch 2.2 knows NumPy 1 only; Lightning 2.2 imports pkg_resources, which setuptools 81 dropped.
    session.install("-e", ".[test]", "setuptools<81", *OLDEST)
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session(python="3.14")
def newest(session: nox.Session) -> None:
    """The newest Python, with all that is new."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "2", *session.posargs)
