"""Losses for TensorBoard, where it is installed: `clozelab train --tensorboard`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError


def check_tensorboard(run: Path | None) -> None:
    """Raises `InputError` where nothing could be written: without the package, or without a run folder of its own."""
    if find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed: pip install 'clozelab[tensorboard]', or leave tensorboard out")
    if run is None:
        raise InputError("TensorBoard's files lie in the run folder: give one by run, or leave tensorboard out")
    if (folder := run / "tensorboard").is_symlink():
        raise InputError(f"{folder} is a link, and what is written there would lie elsewhere: remove the link")


class Scalars:
    """Numbers and samples by step, in `run/tensorboard`; nothing where `run` is None.

    Those of steps after `resume_at`, which a resumed run takes again, are no longer shown.
    """

    def __init__(self, run: Path | None, resume_at: int = 0) -> None:
        self._writer: Any = None
        if run is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=resume_at + 1 if resume_at else None)

    def add(self, step: int, **values: Any) -> None:
        """Numbers become curves, text is shown as it is, and what is neither is left out."""
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, str):
                self._writer.add_text(name, f"    {value}", step)  # indented, so that no sign of it is Markdown
            elif isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()
