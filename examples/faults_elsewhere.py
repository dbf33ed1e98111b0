"""Other people's collators and losses under clozelab's checks.

    clozelab check examples/faults_elsewhere.py:mlm             rows without a target, special ids as replacements
    clozelab check examples/faults_elsewhere.py:mlm_seeded      frozen masks: the second epoch repeats the first
    clozelab check examples/faults_elsewhere.py:clm             pad = end of text, so the end is never predicted
    clozelab check examples/faults_elsewhere.py:gpt2_loss       the Trainer counts a label a row that has no output
    clozelab check examples/faults_elsewhere.py:bert_loss       a mean of means in the Trainer, NaN for empty batches
    clozelab check examples/faults_elsewhere.py:t5_loss         the same

Each takes some seconds, most of it for importing `transformers` (tested with 5.23.0: `pip install transformers`).
Nothing is downloaded: the tokenizer is trained here, the models are tiny and fresh. `ObjectiveTrainer` of
`clozelab.integrations.trainer` has none of the faults of the last three.
"""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

from clozelab import CausalLM, Loss, MaskedLM, Objective, SpanCorruption, SpecialIds
from clozelab.data import train_bpe

# ------------------------------------------------------------------ collators

trained = train_bpe(["the cat sat on the mat", "a cloze is a text with blanks"], vocab_size=300, sentinels=20)
names = {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
extra = [f"<extra_id_{k}>" for k in range(20)]
tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained.backend, **names, extra_special_tokens=extra)
pad_is_end = PreTrainedTokenizerFast(tokenizer_object=trained.backend, pad_token="</s>", eos_token="</s>")

mlm = DataCollatorForLanguageModeling(tokenizer)
mlm_seeded = DataCollatorForLanguageModeling(tokenizer, seed=42)
clm = DataCollatorForLanguageModeling(pad_is_end, mlm=False)

# ------------------------------------------------------------------ losses

V = 120
special = SpecialIds(vocab_size=V, pad=0, eos=1, mask=2, sentinels=range(V - 1, V - 31, -1))


def in_trainer(objective: Objective, model):
    """(loss, model, batch) for `check_objective`: what the Trainer divides, and the count that it divides by.

    The Trainer counts the labels of a whole step, gives the model this number (`num_items_in_batch`) and expects the
    sum of the losses, divided by it. For the number 1, a model must return the sum.
    """
    arguments = TrainingArguments(use_cpu=True, report_to=[])
    count_items = Trainer(model, arguments)._get_num_items_in_batch

    def trainer_loss(model, batch) -> Loss:
        total = model(**batch, num_items_in_batch=torch.tensor(1)).loss
        counted = count_items([batch], torch.device("cpu"))
        return Loss.single(total, (batch["labels"] != -100).sum() if counted is None else counted)

    texts = [torch.randint(3, 80, (n,), generator=torch.Generator().manual_seed(n)) for n in (6, 32, 12, 24)]
    return trainer_loss, model, objective.collator(special)([{"input_ids": text} for text in texts])


torch.manual_seed(0)
ids = {"vocab_size": V, "pad_token_id": 0, "eos_token_id": 1}
of_bert = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
of_t5 = {"d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=1, **ids))
bert = BertForMaskedLM(BertConfig(hidden_size=16, **of_bert, **ids))
t5 = T5ForConditionalGeneration(T5Config(d_model=16, **of_t5, **ids))

gpt2_loss = in_trainer(CausalLM(), gpt2)
bert_loss = in_trainer(MaskedLM(), bert)
t5_loss = in_trainer(SpanCorruption(), t5)
