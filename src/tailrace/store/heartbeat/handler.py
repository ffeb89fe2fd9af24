from datetime import UTC, datetime

beats = 0


def handle(event, context):
    """Its schedule calls it; each beat is a line in the log, and the answer of who calls it by hand."""
    global beats
    beats += 1
    line = f"beat {beats} at {datetime.now(UTC).isoformat(timespec='seconds')}"
    print(line, flush=True)
    return {"statusCode": 200, "headers": {"Content-Type": "text/plain"}, "body": f"{line}\n"}
