"""A tokenizer as somebody else may have made it."""

import pytest
import tokenizers


def byte_level_backend():
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "[CLS]"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["hello there"] * 3, trainer)
    return backend


@pytest.fixture
def backend() -> tokenizers.Tokenizer:
    """Byte-level BPE with an end of text and one more special token, without pad, mask and sentinels."""
    return byte_level_backend()


@pytest.fixture(scope="session")
def split_at():
    """A function from a pattern to such a tokenizer, which splits its words at the pattern."""
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def make(pattern: str) -> tokenizers.Tokenizer:
        backend = byte_level_backend()
        words = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([words, byte_level])
        return backend

    return make
