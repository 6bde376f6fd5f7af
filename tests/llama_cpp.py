"""llama.cpp as the judge of GGUF files, and a small file with SentencePiece."""

import http.client
import json
from pathlib import Path
from typing import Any

import numpy as np
from peers import peer

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class LlamaCpp:
    """A server of llama.cpp in this process; `settings` are fields of its parameters."""

    def __init__(self, path: Path, **settings: Any) -> None:
        module = peer("xllamacpp")
        parameters = module.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_parallel, parameters.warmup = 128, 1, False
        # One thread that does not wait actively: tiny models need no more, and tests run at once.
        parameters.cpuparams.n_threads = settings.pop("n_threads", 1)
        parameters.cpuparams.poll = parameters.cpuparams_batch.poll = 0
        for name, value in settings.items():
            setattr(parameters, name, value)
        self.server = module.Server(parameters)
        address = self.server.listening_address.removeprefix("http://")
        self.connection = http.client.HTTPConnection(address, timeout=300)

    def tokenize(self, text: str, *, special: bool = False, begin: bool = False) -> list[int]:
        """Encode a text; `special`: names of special tokens are special in it."""
        body = {"content": text, "add_special": begin, "parse_special": special}
        return list(self._post("/tokenize", body)["tokens"])

    def apply_template(self, messages: list[dict[str, str]]) -> str:
        """Render a conversation with the chat template of the file, up to the next answer."""
        return str(self._post("/apply-template", {"messages": messages})["prompt"])

    def greedy(self, ids: list[int], n: int) -> list[int]:
        """Continue ids with the most likely ones, also behind an end of text."""
        body = {
            "prompt": ids, "n_predict": n, "temperature": 0, "ignore_eos": False,
            "cache_prompt": False, "return_tokens": True, "n_probs": 0,
        }  # fmt: skip
        return list(self._post("/completion", body)["tokens"])

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        self.connection.close()  # the server may have closed an idle one
        self.connection.request("POST", path, json.dumps(body).encode(), headers)
        return json.loads(self.connection.getresponse().read())


def write_sentencepiece_gguf(path: Path, text: str, **keys: Any) -> None:
    """Write a tiny llama model with a SentencePiece vocabulary of a text; `keys` are metadata."""
    gguf, tokenizers = peer("gguf"), peer("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=160, show_progress=False)
    made.train_from_iterator([text], trainer)
    model = json.loads(made.to_str())["model"]
    merged = ["".join(pair) for pair in model["merges"]]
    characters = [token for token in model["vocab"] if len(token) == 1]
    kinds = gguf.TokenType
    entries = [("<unk>", 0.0, kinds.UNKNOWN), ("<s>", 0.0, kinds.CONTROL)]
    entries += [("</s>", 0.0, kinds.CONTROL)]
    entries += [(f"<0x{value:02X}>", 0.0, kinds.BYTE) for value in range(256)]
    ordinary = dict.fromkeys([*merged, *characters])
    entries += [(t, -float(i), kinds.NORMAL) for i, t in enumerate(ordinary)]
    entries += [("<think>", 0.0, kinds.USER_DEFINED), ("<|end|>", 0.0, kinds.CONTROL)]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token for token, _, _ in entries])
    writer.add_token_scores([score for _, score, _ in entries])
    writer.add_token_types([kind for _, _, kind in entries])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for key, value in keys.items():
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    draw = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, draw.normal(size=shape).astype(np.float32))

    add("token_embd.weight", len(entries), 32)
    add("output_norm.weight", 32)
    add("blk.0.attn_norm.weight", 32)
    add("blk.0.ffn_norm.weight", 32)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        add(f"blk.0.{name}.weight", 32, 32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
