"""Settings with which the Trainer does no more than a bare loop, on the CPU, in order."""

from transformers import TrainingArguments, logging

logging.set_verbosity_error()
AS_A_BARE_LOOP = {
    "output_dir": "unused",
    "use_cpu": True,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "logging_steps": 1,
    "train_sampling_strategy": "sequential",
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "dataloader_pin_memory": False,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 3,
}


def arguments(**settings):
    """`TrainingArguments` of these settings, and others."""
    return TrainingArguments(**{**AS_A_BARE_LOOP, **settings})
