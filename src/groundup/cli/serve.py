"""`groundup serve RUN`: answer requests of OpenAI's API with a model, and show its page."""

from groundup.base.errors import quoted
from groundup.cli.console import heading, note
from groundup.serve.config import ServeConfig
from groundup.serve.serve import Server, open_server


def run(config: ServeConfig) -> None:
    """Print the plan and the address, then serve until Ctrl-C."""
    server = open_server(config)
    heading(f"serve {server.folder}")
    _show_address(server)
    server.run()
    note("Stopped.")


def _show_address(server: Server) -> None:
    path = "chat/completions" if server.served.model.can_chat else "completions"
    what = '"messages":[{"role":"user","content":"Hello"}]'
    if not server.served.model.can_chat:
        what = '"prompt":"Once upon a time"'
    body = f'{{"model":"{server.served.name}",{what},"max_tokens":32}}'
    note(f"The page: {server.url}/")
    note(f"The API:  {server.url}/v1 (base_url of the openai client)")
    key = " -H 'Authorization: Bearer KEY'" if server.has_key else ""
    note("Try:")
    print(f"curl {server.url}/v1/{path}{key} -H 'Content-Type: application/json' -d {quoted(body)}")
    note("Ctrl-C stops the server.")
