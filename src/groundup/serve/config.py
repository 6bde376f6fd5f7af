"""The settings of `serve`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from groundup.base.fields import Config
from groundup.base.kinds import Count, Device, OptionName, Positive


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Config):
    """Settings of `serve`: answer requests of OpenAI's API, and show a page, with one model."""

    run: Path | None = None
    """Run folder, one of its checkpoints, the folder of an assistant, or the name of an imported
    model in runs/, such as smollm2. Of a run with an assistant the newest assistant is served.
    Without it, the newest run in runs/."""
    host: str = "127.0.0.1"
    """Address to listen on. Any address but that of this machine itself requires a key."""
    port: Annotated[int, Ge(0), Le(65535)] = 8000
    """Port to listen on. 0: any free port."""
    api_key: str | None = None
    """Key that clients must send. None: the environment variable GROUNDUP_API_KEY, and without it
    no key."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names of this machine that clients may use, such as gpu.example.org."""
    max_rows: Count = 16
    """Maximum number of texts that are generated at once."""
    max_prompt_tokens: Count | None = None
    """Maximum length of a prompt, in tokens. None: the context of the model."""
    max_new_tokens: Count | None = None
    """Maximum length of an answer, in tokens. None: what the context leaves."""
    timeout_s: Positive = 600.0
    """Time after which an answer ends, in seconds."""
    cache_gb: Positive | None = None
    """Memory for the keys and values of all requests, in GB. None: half of what is free."""
    deterministic: bool = False
    """Compute the same bits for a request alone and beside others. It is slower."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and products. bfloat16 is faster, and changes the answers."""
    quantize: Literal["int8", "file"] | None = None
    """Store weights in fewer bits: int8, or the blocks of the GGUF file that was imported. None
    disables it."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
    try_clients: Annotated[Count | None, OptionName("try")] = None
    """Test the server with this many clients at once, print their speed, and exit. None: serve."""
