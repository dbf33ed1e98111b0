"""Beside other software: what is exported to Hugging Face, and its Trainer."""
