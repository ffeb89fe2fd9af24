"""The model's own process: llama.cpp's HTTP server, run by the model environment's interpreter.

It is a script, not a module of Tailrace: only the standard library and xllamacpp are importable here.
Standard input brings one line of JSON (the configuration, with the API key, so that it stands in no
argument list) and is the lifeline after that: at its end the process is gone. Standard output carries one
line of JSON: ready or failed.
"""

import importlib
import json
import os
import signal
import sys
import threading
from typing import Any


def main() -> None:
    # Ctrl-C is for the parent, which ends us in its own order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the library's own words are no reports
    config = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        xllamacpp = importlib.import_module("xllamacpp")
        server = xllamacpp.Server(_parameters(xllamacpp, config))
        said = {"type": "ready", "url": server.listening_address}
    except Exception as failed:
        said = {"type": "failed", "error": f"{type(failed).__name__}: {failed}"}
    report.write(json.dumps(said) + "\n")
    report.flush()
    if said["type"] == "failed":
        os._exit(1)
    threading.Event().wait()


def _leave_with_parent() -> None:
    sys.stdin.read()
    # Not sys.exit: the server's destructor hangs while a stream is open.
    os._exit(0)


def _parameters(xllamacpp: Any, config: dict[str, Any]) -> Any:
    """llama.cpp's parameters. The numbers were measured on 2 cores, beside other work."""
    wish = xllamacpp.CommonParams()
    wish.model.path = config["gguf"]
    wish.model_alias = {config["model"]}
    wish.hostnames = [config["host"]]
    wish.port = config["port"]
    wish.api_keys = [config["api_key"]]
    wish.cors_origins = ""
    wish.ui = False
    # One thread decodes: two with llama.cpp's spinning barrier collapse tenfold beside other work.
    wish.cpuparams.n_threads = 1
    wish.cpuparams_batch.n_threads = config["batch_threads"]
    wish.n_parallel = 4
    wish.n_ctx = 4 * 2048
    # 256: a client that leaves during prompt processing is noticed after at most one batch (1.75 s).
    wish.n_batch = wish.n_ubatch = 256
    # The default keeps up to 8 GiB of old prompts.
    wish.cache_ram_mib = 0
    # A client that names no limit gets a short answer, not a full context.
    wish.n_predict = config["max_tokens"]
    # 135M parameters ramble when warm and repeat themselves when cold; DRY breaks the loops. With 0.2 and
    # the prompt of examples/stream 12 of 12 answers were sensible lists, with 0.3 10 of 12.
    wish.sampling.temp = 0.2
    wish.sampling.dry_multiplier = 0.8
    wish.sampling.dry_allowed_length = 2
    return wish


if __name__ == "__main__":
    main()
