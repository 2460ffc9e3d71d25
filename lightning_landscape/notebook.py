"""The output of a notebook's cell for a landscape: its picture and its reading, as a page that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from .reading import Reading


def as_html(title: str, reading: Reading, picture: bytes | None) -> str:
    """A picture with sentences beside it, or below it where the page is narrow.

    Text has the colour and the font of the notebook, so that a dark one stays readable. Styles are inside the tags,
    since notebooks that are not trusted drop style sheets.

    Args:
        title: a line above the sentences.
        reading: the sentences.
        picture: a PNG file; None for none.

    >>> print(as_html("a < b", Reading(("One.",)), None))
    <div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">
    <div style="flex:1 1 20em;min-width:0;line-height:1.4"><p><b>a &lt; b</b></p><ul><li>One.</li></ul></div>
    </div>
    """
    parts = ['<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">']
    if picture is not None:
        data = b64encode(picture).decode("ascii")
        style = "flex:0 1 auto;max-width:100%;height:auto"
        parts.append(
            f'<img alt="{escape(reading.headline or title)}" style="{style}" src="data:image/png;base64,{data}">'
        )
    style = "flex:1 1 20em;min-width:0;line-height:1.4"
    parts.append(f'<div style="{style}"><p><b>{escape(title)}</b></p>{reading.as_html()}</div>')
    return "\n".join([*parts, "</div>"])
