"""`groundup serve RUN`: answer requests of OpenAI's API with a model, and show its page."""

from groundup.base.errors import quoted
from groundup.cli.console import console, heading, next_command, note
from groundup.cli.serve_view import check_load_test, show_load_test, show_plan
from groundup.serve.config import ServeConfig
from groundup.serve.serve import Server, open_server, try_server


def run(config: ServeConfig) -> None:
    """Print the plan and the address, then serve until Ctrl-C; or test the server and stop."""
    server = open_server(config)
    heading(f"serve {server.folder}")
    show_plan(server.plan)
    if config.try_clients is not None:
        result = try_server(server, config.try_clients)
        show_load_test(result, server.plan)
        check_load_test(result, config)
        next_command(f"groundup serve {quoted(server.folder)}")
        return
    _show_address(server)
    server.run()
    note("\nStopped.")


def _show_address(server: Server) -> None:
    can_chat, name = server.served.model.can_chat, server.served.name
    note(f"Page: {server.url}/")
    note(f"API:  {server.url}/v1, model {name}")
    if server.api_key is not None:
        note("Clients must send the key.")
        note("Other machines use the address of this one, or a name given with --allowed-hosts.")
    note("To try it, type in another terminal:\n")
    asked = '"messages":[{"role":"user","content":"Hello"}]' if can_chat else '"prompt":"Once upon"'
    body = f'{{"model":"{name}",{asked},"max_tokens":32}}'
    path = "chat/completions" if can_chat else "completions"
    key = ' -H "Authorization: Bearer $GROUNDUP_API_KEY"' if server.api_key is not None else ""
    console.print(
        f"curl {server.url}/v1/{path}{key} -H 'Content-Type: application/json' -d {quoted(body)}",
        markup=False,
        soft_wrap=True,
    )
    note("\nCtrl-C stops the server.")
