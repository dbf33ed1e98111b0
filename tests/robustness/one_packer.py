"""Packs texts into a cache, each at a moment at which another process packs it too; prints which came out otherwise.

python one_packer.py CACHE BEGIN REPEATS
"""

import sys
import time

from clozelab.data import pack, train_bpe

EVERY = 0.1
"""Seconds between two texts."""


def main(cache, begin, repeats):
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(100)]
    for n in range(int(repeats)):
        texts = [*documents, f"the text {n}"]
        while time.time() < float(begin) + n * EVERY:
            time.sleep(0.001)
        tokenizer = train_bpe(texts, 400, cache_dir=cache)
        packed = pack(texts, tokenizer, cache_dir=cache)
        alone = [token for ids in tokenizer.encode_batch(texts) for token in (*ids, tokenizer.special.eos)]
        if packed.tokens.tolist() != alone:
            print(n)


if __name__ == "__main__":
    main(*sys.argv[1:])
