"""Make a small GPT-2, a tokenizer of bytes and a text, from nothing: `inputs.py FOLDER`."""

import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<end>"
WORDS = ["the", "train", "runs", "slow", "links", "between", "sites", "and", "model", "learns"]

out = Path(sys.argv[1])
pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), END]
tokenizer = Tokenizer(models.BPE(vocab={p: n for n, p in enumerate(pieces)}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
known = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
known.save_pretrained(out / "model")
config = GPT2Config(
    vocab_size=len(pieces),
    n_positions=128,
    n_embd=192,
    n_layer=4,
    n_head=4,
    bos_token_id=len(pieces) - 1,
    eos_token_id=len(pieces) - 1,
)
GPT2LMHeadModel(config).save_pretrained(out / "model")
(out / "data").mkdir(exist_ok=True)
chance = random.Random(0)
texts = [" ".join(chance.choices(WORDS, k=60)) for _ in range(600)]
lines = [json.dumps({"text": text}) + "\n" for text in texts]
(out / "data" / "train.jsonl").write_text("".join(lines))
