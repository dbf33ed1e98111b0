"""A generator and a discriminator of `transformers` as one model, for the objective `Electra`.

`transformers` has both halves of ELECTRA and no model that holds them, so each is trained apart there, and the
discriminator's own loss is a plain mean over a micro-batch. This file needs `transformers`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_type
from ..errors import InputError
from ..models import Prediction
from ..models.generator_discriminator import sample_ids

try:
    from transformers import ElectraForMaskedLM, ElectraForPreTraining
except ImportError as error:
    raise InputError(f"this needs transformers 5 (pip install 'transformers>=5'): {error}") from error

TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")
"""What both halves share."""


class ElectraPair(nn.Module):
    """An `ElectraForMaskedLM` and an `ElectraForPreTraining` that reads what it draws, for `Electra()(pair, batch)`.

    Their tables of tokens, positions and types become those of the discriminator, as in the paper. Afterwards
    `pair.discriminator.save_pretrained(folder)` writes what `transformers` opens for fine-tuning.

    >>> from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining
    >>> from clozelab import SpecialIds
    >>> from clozelab.integrations.electra import ElectraPair
    >>> from clozelab.objectives import Electra
    >>> shape = {"vocab_size": 20, "embedding_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> small, large = (ElectraConfig(hidden_size=h, intermediate_size=4 * h, **shape) for h in (8, 16))
    >>> pair = ElectraPair(ElectraForMaskedLM(small), ElectraForPreTraining(large))
    >>> batch = Electra().collator(SpecialIds(20, pad=0, eos=1, mask=2))([[5, 6, 7, 8, 9, 10, 11, 12]])
    >>> {part: int(loss.count) for part, loss in Electra()(pair, batch).items()}
    {'generator': 1, 'discriminator': 8}

    Raises `InputError` for models of other classes, of other vocabularies, and of tables of other sizes.
    """

    def __init__(self, generator: ElectraForMaskedLM, discriminator: ElectraForPreTraining) -> None:
        super().__init__()
        check_type(generator, ElectraForMaskedLM, "the generator")
        check_type(discriminator, ElectraForPreTraining, "the discriminator")
        ours, theirs = generator.electra.embeddings, discriminator.electra.embeddings
        for name in TABLES:
            mine, other = (tuple(getattr(one, name).weight.shape) for one in (ours, theirs))
            if mine != other:
                raise InputError(
                    f"the {name} of the generator are {mine}, those of the discriminator {other}, and both share them: "
                    "give both configurations one vocab_size, embedding_size and max_position_embeddings"
                )
            setattr(ours, name, getattr(theirs, name))
        generator.generator_lm_head.weight = theirs.word_embeddings.weight  # as `transformers` ties it
        self.generator, self.discriminator, self.config = generator, discriminator, discriminator.config

    def get_output_embeddings(self) -> nn.Module:
        """The generator's head, whose table is that of both."""
        return self.generator.get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        sampling_noise: Tensor | None = None,
    ) -> dict[str, Prediction]:
        flags: dict[str, Any] = {"attention_mask": attention_mask, "return_dict": True}
        generated = Prediction(self.generator(input_ids=input_ids, **flags).logits)  # (B, T, V)
        sampled = sample_ids(generated, input_ids, sampling_noise)
        replaced = self.discriminator(input_ids=sampled, **flags).logits  # (B, T): the logit of "replaced"
        classes = torch.stack([torch.zeros_like(replaced), replaced], -1)
        return {"generator": generated, "discriminator": Prediction(classes, sampled=sampled)}
