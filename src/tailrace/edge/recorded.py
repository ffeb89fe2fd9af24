"""A call that is, or may become, a run: recorded, resumed, joined by its key, able to outlive its client.

    open ──▶ last event id ─────▶ ours: watch that run ◀──────────┐
        │    idempotency key ──▶ body ──▶ claim: somebody's ──────┘
        │                                   │ free
        └──▶ recorded ◀─────────────────────┘
             └──▶ client leaves ──▶ policy: end, or go on unattended

Watching a run is asking the control plane for its stream, on the client's own connection.
"""

from __future__ import annotations

import hashlib
import math
import time

from tailrace.edge import ends
from tailrace.edge.call import Call
from tailrace.edge.clocks import Clocks
from tailrace.edge.heads import Reply, Request, RunWish
from tailrace.edge.plane import Client, Edge
from tailrace.edge.pool import Upstream
from tailrace.edge.recording import RecordedStream, head_of
from tailrace.edge.stream import Stream
from tailrace.edge.unattended import Unattended
from tailrace.errors import (
    FunctionError,
    InvalidRequest,
    KeyReused,
    NotFound,
    RunExpired,
    RunStopped,
    RunsUnavailable,
    TailraceError,
    TooLarge,
    ViewerTooSlow,
)
from tailrace.functions.table import Function
from tailrace.runs.claims import Claim, claim_name, is_key, judge
from tailrace.runs.ids import EventId, is_run_id, parse_event_id
from tailrace.runs.keeper import RECORD_S, Runs
from tailrace.runs.policy import Policy, chosen_policy
from tailrace.runs.record import Record
from tailrace.runs.run import Run
from tailrace.runs.tries import Earlier

# A body that decides whether two requests are the same one is held as a whole.
KEYED_BODY_BYTES = 8 * 1024 * 1024
# A client that leaves more than this untaken for a third of `stall_timeout_s` is dropped: it can come back
# for the rest. What is held for it until then is bounded by what is recorded of a run; then the function
# waits.
VIEWER_BUFFER = 256 * 1024
SLOW = 1 / 3


def make_call(edge: Edge, client: Client, request: Request, now: float) -> Call:
    """The call for this request: one that knows of runs where the request or the function asks for it."""
    runs = edge.runs
    if runs is None or request.label is None:
        return Call(edge, client, request, now)
    function = edge.table.find(request.label)
    if function is None or (request.wish is None and not function.options.is_recorded):
        return Call(edge, client, request, now)
    return RecordedCall(edge, client, request, now, runs)


class RecordedCall(Call):
    """Plain, as every call, until `_set_out` has found that it is to be recorded or that a run is meant."""

    __slots__ = (
        "_alone", "_digest", "_error", "_full_since", "_is_put_off", "_is_watched", "_joined", "_key",
        "_policy", "_received", "_run", "_runs", "_seq", "_wanted", "_wants_early",
    )  # fmt: skip

    def __init__(self, edge: Edge, client: Client, request: Request, now: float, runs: Runs) -> None:
        super().__init__(edge, client, request, now)
        self._runs = runs
        self._run: Run | None = None
        self._alone: Unattended | None = None
        self._error: TailraceError | None = None
        # The function asks that a call of the queue is tried again: nothing of its answer is the run's.
        self._is_put_off = False
        # Whether its client counts among those who watch the run.
        self._is_watched = False
        self._full_since = math.inf
        self._policy: Policy | None = None
        # The run that is watched instead, from which event on.
        self._joined = ""
        self._seq = 0
        # A run, or a key, that is looked for once the request has come as a whole.
        self._wanted: EventId | None = None
        self._key = b""
        self._digest = hashlib.sha256()
        self._received = 0
        # What is told early is told by the run's stream, so it waits for the run.
        self._wants_early = False

    # Which call this is.

    def _set_out(self, function: Function) -> None:
        head, wish = self._request.head, self._request.wish or RunWish()
        options = function.options
        is_async = bool(wish.run)
        is_recorded = is_async or wish.is_recorded or options.is_recorded
        if not is_recorded or head.method in (b"HEAD", b"OPTIONS") or head.wants_websocket:
            self._seek_replica(function)
            return
        try:
            asked = wish.on_disconnect.decode("latin-1")
            self._policy = chosen_policy(options.grace_s, asked, is_async=is_async)
            self._check_wish(wish)
        except InvalidRequest as refused:
            self._fail(refused, ends.REFUSED)
            return
        if is_async:
            self._answer.call_id = wish.run
            self._answer.wants_early = False  # a worker waits for the real status
        self._wanted = parse_event_id(wish.last_event_id.decode("latin-1"))
        self._key = wish.key
        if is_async:
            self._key, self._wanted = b"", None
            self._connecting = self._edge.spawn(self._try_again(function))
            return
        if self._wanted is None and not self._key:
            self._record(function, "")
            return
        self._wants_early, self._answer.wants_early = self._answer.wants_early, False
        if self._upload is None:
            self._look(function)
        else:
            self._upload.limit_bytes = KEYED_BODY_BYTES
            self._answer.ask_on()

    def _check_wish(self, wish: RunWish) -> None:
        if wish.key and not is_key(wish.key):
            raise InvalidRequest("Idempotency-Key is not 1 to 256 visible ASCII characters")
        if wish.run and not is_run_id(wish.run.decode("latin-1")):
            raise InvalidRequest("X-Call-Id is no run's id")

    def on_request_body(self, body: bytes, *, is_last: bool) -> None:
        """The next piece of the request's body, held back while it decides which run is meant."""
        is_held = (self._wanted is not None or self._key) and self._run is None
        if is_held:
            self._digest.update(body)
            self._received += len(body)
            if self._received > KEYED_BODY_BYTES:
                limit = (
                    f"{KEYED_BODY_BYTES} bytes, the limit for a request with Idempotency-Key or Last-Event-ID"
                )
                self._fail(TooLarge(f"the request body is larger than {limit}"), ends.REFUSED)
                return
        super().on_request_body(body, is_last=is_last)
        if is_held and is_last:
            assert self._function is not None
            self._look(self._function)

    def _look(self, function: Function) -> None:
        wanted = self._wanted
        if wanted is not None:
            self._connecting = self._edge.spawn(self._find(function, wanted))
        else:
            self._edge.spawn(self._claim(function))

    async def _find(self, function: Function, wanted: EventId) -> None:
        """Go on with the run of the client's last event, if it is one of this function."""
        try:
            record: Record = await self._runs.find(wanted.run)
        except NotFound:
            self._connecting = None
            # Whether it was this function's nobody knows any more; a second start would be the worse answer.
            self._fail(RunExpired(f"the run of event '{wanted}' is no longer kept"), ends.REFUSED)
            return
        except RunsUnavailable as failed:
            self._connecting = None
            self._fail(failed, ends.ERROR_PLATFORM)
            return
        self._connecting = None
        if record.function != str(function.name):
            self._wanted = None
            if self._key:
                self._edge.spawn(self._claim(function))
            else:
                self._record(function, "")
        else:
            self._join(wanted.run, wanted.seq)

    async def _claim(self, function: Function) -> None:
        """Start the run of the client's key, or watch the one that was started with it."""
        wish, head = self._request.wish, self._request.head
        assert wish is not None
        name = claim_name(str(function.name), wish.authorization, wish.key)
        digest = hashlib.sha256(b"%b %b\n" % (head.method, head.target) + self._digest.digest()).hexdigest()
        run = self._answer.call_id.decode()
        try:
            held: Claim = await self._runs.claim(name, Claim(run, digest, time.time()))
            if self.is_over:
                await self._runs.store.release_claim(name, run)
                return
        except RunsUnavailable as failed:
            self._edge.spawn(self._runs.store.unclaim(name, run))
            self.end(failed, ends.ERROR_PLATFORM)
            return
        if held.run == run:
            self._record(function, name)
        elif judge(held, digest) == "join":
            self._join(held.run, -1)
        else:
            self._fail(
                KeyReused(
                    "this Idempotency-Key came with another request before; a new request needs a new key"
                ),
                ends.REFUSED,
            )

    async def _try_again(self, function: Function) -> None:
        """A call of the queue: what earlier tries have left is the beginning of its run."""
        try:
            earlier: Earlier = await self._runs.tries.earlier(
                self._answer.call_id.decode(), str(function.name)
            )
        except (RunStopped, RunsUnavailable) as refused:
            self._connecting = None
            is_stopped = isinstance(refused, RunStopped)
            self._fail(refused, ends.REFUSED if is_stopped else ends.ERROR_PLATFORM)
            return
        self._connecting = None
        self._record(function, "", earlier)

    def _record(self, function: Function, key: str, earlier: Earlier | None = None) -> None:
        policy, name = self._policy, str(function.name)
        assert policy is not None
        run = self._run = self._runs.begin(
            self._answer.call_id.decode(), name, self, policy, key=key, earlier=earlier
        )
        self._answer.run, self._is_watched = run, True
        if self._wants_early:
            self._answer.wants_early = True
            self._client.look_by(self._began_at + self._clocks.early_head_s)
        self._seek_replica(function)

    # Watching a run instead.

    def _join(self, run: str, seq: int) -> None:
        stall_s = self._edge.settings.stall_timeout_s
        self._clocks = Clocks(stall_s=stall_s, look_s=stall_s)
        self._joined, self._seq = run, seq
        self._answer.call_id = run.encode()
        self._answer.wants_early = False
        self._upload = None
        self._connect(self._edge.control)

    def _sent_head(self) -> bytes:
        if not self._joined:
            return super()._sent_head()
        accept = b"text/event-stream" if self._request.wants_events else b"*/*"
        after = b"&after=%d" % self._seq if self._seq >= 0 else b""
        wish = self._joined.encode(), RECORD_S if self._seq < 0 else 0.0, after, accept
        return (
            b"GET /run/%b/stream?wait=%g%b HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: %b\r\n"
            b"x-tailrace-joined: 1\r\n\r\n" % wish
        )

    def _on_no_connection(self, error: OSError) -> None:
        if self._joined:
            self._fail(ends.no_control_plane(error), ends.ERROR_PLATFORM)
        else:
            super()._on_no_connection(error)

    # Recording.

    def _on_upstream(self, upstream: Upstream) -> None:
        if self._run is not None:
            self._run.is_starting()
        super()._on_upstream(upstream)

    def on_reply_whole(self, reply: Reply, body: bytes) -> None:
        """A whole answer at once."""
        run = self._run
        self._look_at_status(reply)
        if run is not None and not reply.is_fault and not self._answer.is_early and not self._is_put_off:
            run.begin(head_of(reply, "plain"))
            run.take(body)
            run.take_rest()
        super().on_reply_whole(reply, body)

    def on_reply(self, reply: Reply) -> Stream | None:
        """The head of an answer whose body follows."""
        self._look_at_status(reply)
        stream = super().on_reply(reply)
        if self._is_full and self._run is not None:
            self.on_client_full()
        return stream

    def _look_at_status(self, reply: Reply) -> None:
        run, function, status = self._run, self._function, reply.head.status
        is_async = run is not None and run.record.is_async
        if is_async and function is not None and status in function.options.retries.codes:
            self._is_put_off = True
            self._error = FunctionError(f"the function answered {status}")
            self._answer.run = None

    def _fail(self, error: TailraceError, reason: str) -> None:
        self._error = error
        super()._fail(error, reason)

    def _leave(self, reason: str) -> None:
        super()._leave(reason)
        if self._alone is not None:
            self._alone.close()
        run = self._run
        if run is None:
            return
        if reason == ends.DONE and self._is_put_off:
            run.suspend(ends.ERROR_FUNCTION, self._error)
        elif reason == ends.DONE:
            run.end("done", reason, None)
        elif reason in (ends.CLIENT_GONE, ends.CLIENT_STALLED) and not run.record.is_async:
            run.end("cancelled", reason, RunStopped("the run was ended because nobody watched it any more"))
        elif reason != ends.CANCELLED and run.record.is_async:
            run.suspend(reason, self._error)  # whether it is tried again is for the queue to say
        else:
            run.end("cancelled" if reason == ends.CANCELLED else "failed", reason, self._error)
        if self._is_watched:
            run.attendance.leave()
        self._runs.over(run)

    # Without its client.

    def on_client_gone(self, reason: str) -> None:
        """The client left: the run goes on while its policy lets it."""
        run = self._run
        if self.is_over or run is None or not self._is_request_sent:
            super().on_client_gone(reason)
            return
        self._is_watched = False
        if self._runs.is_left(run):
            super().on_client_gone(reason)
        else:
            self._go_on_alone()

    def _go_on_alone(self) -> None:
        alone = self._alone = Unattended(self._edge, self)
        self._client = alone
        self._answer.move(alone)
        alone.attend(self._edge.clock() + self._clocks.look_s)
        self.on_client_drained()  # nobody is waited for any more, nor looked at

    def abandon(self) -> None:
        """Nobody is left who watches the run."""
        super().on_client_gone(ends.CLIENT_GONE)

    def on_client_full(self) -> None:
        """The client does not keep up. The function goes on as long as what it says is kept elsewhere."""
        run, stream = self._run, self._answer.stream
        if run is not None and run.is_recording and isinstance(stream, RecordedStream):
            self._full_since = self._edge.clock()
            stream.on_full = self._look_at_client
        else:
            super().on_client_full()

    def on_client_drained(self) -> None:
        """The client takes more."""
        stream = self._answer.stream
        if isinstance(stream, RecordedStream):
            stream.on_full = None
        if self._is_full:
            super().on_client_drained()

    def _look_at_client(self) -> None:
        """More has come for a client whose buffer is full."""
        run, stream = self._run, self._answer.stream
        assert run is not None
        assert isinstance(stream, RecordedStream)
        if not run.is_recording:  # there is no rest to come back for: the function waits for it
            stream.on_full = None
            super().on_client_full()
        elif (
            self._edge.clock() - self._full_since > self._edge.settings.stall_timeout_s * SLOW
            and self._client.transport.get_write_buffer_size() > VIEWER_BUFFER
        ):
            stream.on_full = None
            self._edge.loop.call_soon(self._drop_client)

    def _drop_client(self) -> None:
        """Let a client go that does not keep up: it can come back for the rest."""
        run, stream, client = self._run, self._answer.stream, self._client
        if self.is_over or run is None or self._alone is not None or not isinstance(stream, RecordedStream):
            return
        self._runs.numbers.viewers_dropped += 1
        rest = f"/run/{run.id}/stream?after={len(run.log.pieces)}"
        error = ViewerTooSlow(f"this client takes less than the run says; go on at {rest}")
        client.keep_alive = False
        is_told = stream.drop(error.code, error.message, run.id)
        self.on_client_gone(ends.CLIENT_STALLED)
        if is_told:
            client.call_over(self)
        else:
            client.cut(with_reset=not stream.is_chunked)
