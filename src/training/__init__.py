"""The one loop, its checkpoints, and the comparison of objectives."""

from .batches import Batches
from .checkpoint import Checkpoint, latest_checkpoint, read_checkpoint, save_checkpoint
from .compare import Compared, compare
from .compute import training_flops
from .config import TrainConfig
from .fit import learn
from .loop import NotFinite, TrainResult, read_run, train
from .optimizers import Optimizers, optimizer_of, step_with_mean
from .processes import LossModule, Processes, ProcessLost, init_processes
from .report import read_metrics
from .run import Prepared, PreparedStream, TrainedRun, load_run, prepare, prepare_stream
from .streamed import StreamedBatches

__all__ = [
    "Batches",
    "Checkpoint",
    "Compared",
    "LossModule",
    "NotFinite",
    "Optimizers",
    "Prepared",
    "PreparedStream",
    "ProcessLost",
    "Processes",
    "StreamedBatches",
    "TrainConfig",
    "TrainResult",
    "TrainedRun",
    "compare",
    "init_processes",
    "latest_checkpoint",
    "learn",
    "load_run",
    "optimizer_of",
    "prepare",
    "prepare_stream",
    "read_checkpoint",
    "read_metrics",
    "read_run",
    "save_checkpoint",
    "step_with_mean",
    "train",
    "training_flops",
]
