"""The one loop, its checkpoints, and the comparison of objectives."""

from .batches import Batches
from .checkpoint import Checkpoint, latest_checkpoint, read_checkpoint, save_checkpoint
from .compare import Compared, compare
from .config import TrainConfig
from .loop import NotFinite, TrainResult, adamw, read_run, step_with_mean, train
from .report import read_metrics
from .run import Prepared, TrainedRun, load_run, prepare

__all__ = [
    "Batches",
    "Checkpoint",
    "Compared",
    "NotFinite",
    "Prepared",
    "TrainConfig",
    "TrainResult",
    "TrainedRun",
    "adamw",
    "compare",
    "latest_checkpoint",
    "load_run",
    "prepare",
    "read_checkpoint",
    "read_metrics",
    "read_run",
    "save_checkpoint",
    "step_with_mean",
    "train",
]
