"""Pictures as files: the same bytes always, written whole."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from sim.storage.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure, as .png, .svg or .pdf; the same figure twice gives the same bytes.

    Raises
    ------
    ValueError
        If its labels leave no room for anything else.
    """
    import matplotlib

    dated = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix)
    metadata = {} if dated is None else {dated: None}
    content = BytesIO()  # writers of PDF do not survive a full disk
    with matplotlib.rc_context({"svg.hashsalt": "bandwise"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # which is then drawn as a box
        warnings.filterwarnings("error", ".*layout not applied")
        try:
            figure.savefig(content, format=path.suffix[1:], dpi=dpi, metadata=metadata)
        except UserWarning as error:
            raise ValueError("its labels leave no room for the picture; shorten them") from error
    with replacing(path) as partial:
        partial.write_bytes(content.getvalue())
