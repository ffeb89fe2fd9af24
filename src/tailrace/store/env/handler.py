import re
from os import environ

# Whose values are shown. This function's address may be open to everybody, and any other may be a secret.
HARMLESS = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PWD|SHLVL|HOSTNAME|USER|PORT|PYTHON[A-Z]*|PYTHON_VERSION|"
    r"OPENFAAS_(NAME|NAMESPACE)|fprocess|mode|content_type|max_inflight|(read|write|exec)_timeout|"
    r"healthcheck_interval|prefix_logs|write_debug|combine_output"
)
SHOW_ALL = environ.get("SHOW_VALUES", "").lower() == "true"


def handle(event, context):
    """The environment, one NAME=value a line."""
    lines = [f"{name}={shown(name, value)}" for name, value in sorted(environ.items())]
    return {"statusCode": 200, "headers": {"Content-Type": "text/plain"}, "body": "\n".join(lines) + "\n"}


def shown(name, value):
    """The value where its name is known to be harmless, else how long it is."""
    return value if SHOW_ALL or HARMLESS.fullmatch(name) else f"*** ({len(value)} characters)"
