"""The one loop, its run folders and checkpoints, and the comparison of objectives."""

from ..doors import explain_errors
from ..errors import NotFinite, ProcessLost
from .batches import Batches
from .checkpoint import Checkpoint, latest_checkpoint, read_checkpoint, save_checkpoint
from .compare import Compared, compare
from .compute import training_flops
from .config import TrainConfig
from .fit import LossFn, fit
from .load import TrainedRun, load_run
from .loop import TrainResult, train
from .optimizers import Optimizers, optimizer_of
from .prepare import Prepared, PreparedStream, prepare, prepare_stream
from .processes import Processes, init_processes
from .report import read_metrics
from .run_description import read_run
from .seeding import seeded_model
from .step import StepResult, clip_and_step, train_step
from .streamed import StreamedBatches

__all__ = [
    "Batches",
    "Checkpoint",
    "Compared",
    "LossFn",
    "NotFinite",
    "Optimizers",
    "Prepared",
    "PreparedStream",
    "ProcessLost",
    "Processes",
    "StepResult",
    "StreamedBatches",
    "TrainConfig",
    "TrainResult",
    "TrainedRun",
    "clip_and_step",
    "compare",
    "fit",
    "init_processes",
    "latest_checkpoint",
    "load_run",
    "optimizer_of",
    "prepare",
    "prepare_stream",
    "read_checkpoint",
    "read_metrics",
    "read_run",
    "save_checkpoint",
    "seeded_model",
    "train",
    "train_step",
    "training_flops",
]

explain_errors(__name__)
