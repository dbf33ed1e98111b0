"""Measure: held-out loss and what it must beat."""

from .heldout import HeldOut, evaluate, fixed_batches, label_counts, positions_read, unigram_loss

__all__ = ["HeldOut", "evaluate", "fixed_batches", "label_counts", "positions_read", "unigram_loss"]
