/* The upstream of a benchmark: a replica that costs next to nothing.
 *
 *   source unix:/path | source 127.0.0.1:0
 *
 * GET /anything                          128 bytes
 * GET /stream?n=40&gap_ms=50&size=180    n events of size bytes, one every gap_ms (0: as fast as they are
 *                                        taken), each a chunk and a write of its own, as yields are
 *
 * An event carries its number and the time at which it was sent; one that could not be sent because the
 * reader was slow carries the time at which it was due. Prints a line with its port once it listens, and one
 * JSON object when stdin ends. */
#include "event.h"
#include "ground.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    REQUEST_LIMIT = 8 * 1024,
    SIZE_LIMIT = 64 * 1024,
    CHUNK_OVERHEAD = 16,
    WRITES_PER_TURN = 16, /* of one full-speed stream, before the next one has its turn */
    EVENTS_AT_ONCE = 256,
};

static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char BAD_REQUEST[] =
    "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
static const char LAST_CHUNK[] = "0\r\n\r\n";
static const size_t EVENT_MIN =
    sizeof EVENT_BEGIN + EVENT_STAMP_BYTES + sizeof EVENT_MIDDLE + sizeof EVENT_END - 3;

struct connection {
    int fd;
    char request[REQUEST_LIMIT];
    size_t request_length;
    char *pending; /* what the socket did not take yet */
    size_t pending_length, pending_capacity;
    uint64_t left, number, gap_ns; /* of the stream that is being answered */
    uint64_t due_ns;
    size_t size;
    size_t place; /* in the heap of due streams, from 1; 0: not in it */
    bool is_stalled, waits_to_write, is_closing;
    struct connection *next_closed;
};

/* Everything a run counts, printed at its end. */
static struct {
    uint64_t requests, streams, events, bad_requests, abandoned, behind_most_ns;
} seen;

static int epoll, timer;
static char small_answer[256];
static size_t small_answer_length;
static struct connection *closed; /* freed after the turn: the rest of its events may name them */

/* The streams that wait for their next event, the earliest first: a binary heap, from 1. */
static struct {
    struct connection **items;
    size_t count, capacity;
    uint64_t timer_at_ns;
} due;

static void heap_put(struct connection *c, size_t place)
{
    due.items[place] = c;
    c->place = place;
}

static void heap_settle(struct connection *c, size_t place)
{
    while (place > 1 && due.items[place / 2]->due_ns > c->due_ns) {
        heap_put(due.items[place / 2], place);
        place /= 2;
    }
    for (;;) {
        size_t child = 2 * place;
        if (child < due.count && due.items[child + 1]->due_ns < due.items[child]->due_ns)
            child++;
        if (child > due.count || due.items[child]->due_ns >= c->due_ns)
            break;
        heap_put(due.items[child], place);
        place = child;
    }
    heap_put(c, place);
}

static void heap_add(struct connection *c)
{
    if (due.count + 1 >= due.capacity) {
        due.capacity = due.capacity ? 2 * due.capacity : 1024;
        due.items = realloc(due.items, due.capacity * sizeof *due.items);
        if (due.items == NULL)
            give_up("out of memory");
    }
    heap_settle(c, ++due.count);
}

static void heap_remove(struct connection *c)
{
    if (c->place == 0)
        return;
    size_t place = c->place;
    struct connection *last = due.items[due.count--];
    c->place = 0;
    if (last != c)
        heap_settle(last, place);
}

static void close_connection(struct connection *c)
{
    if (c->is_closing)
        return;
    if (c->left > 0 || c->pending_length > 0)
        seen.abandoned++;
    heap_remove(c);
    close(c->fd);
    c->left = 0;
    c->is_closing = true;
    c->next_closed = closed;
    closed = c;
}

static void free_closed(void)
{
    while (closed != NULL) {
        struct connection *c = closed;
        closed = c->next_closed;
        free(c->pending);
        free(c);
    }
}

static void wait_to_write(struct connection *c, bool waits)
{
    if (c->waits_to_write != waits && !c->is_closing) {
        c->waits_to_write = waits;
        rewatch(epoll, c->fd, waits ? EPOLLIN | EPOLLOUT : EPOLLIN, c);
    }
}

/* Append what could not be sent; it goes first once the socket takes more. */
static void keep(struct connection *c, const char *data, size_t length)
{
    if (c->pending_length + length > c->pending_capacity) {
        c->pending_capacity = c->pending_length + length;
        c->pending = realloc(c->pending, c->pending_capacity);
        if (c->pending == NULL)
            give_up("out of memory");
    }
    memcpy(c->pending + c->pending_length, data, length);
    c->pending_length += length;
}

static void put(struct connection *c, const char *data, size_t length)
{
    ssize_t sent = 0;
    if (c->is_closing)
        return;
    if (c->pending_length == 0)
        sent = send(c->fd, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        close_connection(c);
        return;
    }
    size_t taken = sent < 0 ? 0 : (size_t)sent;
    if (taken < length)
        keep(c, data + taken, length - taken);
}

/* Send what is pending; whether nothing is left of it. */
static bool flush(struct connection *c)
{
    if (c->pending_length == 0)
        return true;
    ssize_t sent = send(c->fd, c->pending, c->pending_length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        close_connection(c);
        return false;
    }
    if (sent > 0) {
        c->pending_length -= (size_t)sent;
        memmove(c->pending, c->pending + sent, c->pending_length);
    }
    return c->pending_length == 0;
}

/* One event as a chunk, sent at sent_ns; with the last one the end of the body. */
static void send_event(struct connection *c, uint64_t sent_ns)
{
    static char chunk[SIZE_LIMIT + CHUNK_OVERHEAD + sizeof LAST_CHUNK];
    size_t padding = c->size - EVENT_MIN;
    int head = snprintf(chunk, sizeof chunk, "%zx\r\n" EVENT_BEGIN EVENT_STAMP EVENT_MIDDLE, c->size,
                        (unsigned long long)c->number, (unsigned long long)sent_ns);
    char *end = chunk + head;
    memset(end, 'x', padding);
    end = stpcpy(end + padding, EVENT_END "\r\n");
    c->number++;
    seen.events++;
    if (--c->left == 0)
        end = stpcpy(end, LAST_CHUNK);
    put(c, chunk, (size_t)(end - chunk));
}

/* Send the events of a paced stream that are due, then wait for the next one or for the reader. */
static void send_due(struct connection *c, uint64_t now)
{
    if (now - c->due_ns > seen.behind_most_ns && !c->is_stalled)
        seen.behind_most_ns = now - c->due_ns;
    while (c->left > 0 && c->due_ns <= now && c->pending_length == 0 && !c->is_closing) {
        send_event(c, c->is_stalled ? c->due_ns : now);
        c->due_ns += c->gap_ns;
    }
    if (c->is_closing)
        return;
    c->is_stalled = c->pending_length > 0;
    wait_to_write(c, c->is_stalled);
    if (c->left > 0 && !c->is_stalled)
        heap_add(c);
}

/* Send some events of a full-speed stream; epoll calls again as long as the socket takes more. */
static void send_some(struct connection *c)
{
    for (int n = 0; n < WRITES_PER_TURN && c->left > 0 && c->pending_length == 0 && !c->is_closing; n++)
        send_event(c, now_ns());
    wait_to_write(c, c->left > 0 || c->pending_length > 0);
}

static uint64_t parameter(const char *query, const char *name, uint64_t otherwise)
{
    size_t length = strlen(name);
    for (const char *at = query; at != NULL && *at != ' ';) {
        if (strncmp(at, name, length) == 0 && at[length] == '=')
            return strtoull(at + length + 1, NULL, 10);
        at = strpbrk(at, "& ");
        at += at != NULL && *at == '&';
    }
    return otherwise;
}

static void begin_stream(struct connection *c, const char *query)
{
    c->left = parameter(query, "n", 1);
    c->gap_ns = parameter(query, "gap_ms", 0) * NS_PER_MS;
    c->size = parameter(query, "size", 180);
    if (c->left == 0 || c->size < EVENT_MIN || c->size > SIZE_LIMIT) {
        seen.bad_requests++;
        c->left = 0;
        put(c, BAD_REQUEST, sizeof BAD_REQUEST - 1);
        return;
    }
    seen.streams++;
    c->number = 0;
    c->due_ns = now_ns();
    c->is_stalled = false;
    put(c, STREAM_HEAD, sizeof STREAM_HEAD - 1);
    if (c->gap_ns > 0)
        send_due(c, c->due_ns);
    else
        send_some(c);
}

/* The whole head of a request lies at the start of c->request, its last byte replaced by a 0. */
static void answer(struct connection *c, bool is_strange)
{
    seen.requests++;
    if (is_strange || strncmp(c->request, "GET /", 5) != 0) {
        seen.bad_requests++;
        put(c, BAD_REQUEST, sizeof BAD_REQUEST - 1);
        close_connection(c);
    } else if (strncmp(c->request + 4, "/stream?", 8) == 0) {
        begin_stream(c, c->request + 12);
    } else {
        put(c, small_answer, small_answer_length);
        wait_to_write(c, c->pending_length > 0);
    }
}

/* A request with a body is none of ours, and would be read as the next request. */
static bool announces_body(const char *head)
{
    for (const char *line = strchr(head, '\n'); line != NULL; line = strchr(line + 1, '\n'))
        if (strncasecmp(line + 1, "transfer-encoding:", 18) == 0 ||
            (strncasecmp(line + 1, "content-length:", 15) == 0 && strtoull(line + 16, NULL, 10) > 0))
            return true;
    return false;
}

static void read_requests(struct connection *c)
{
    ssize_t got = recv(c->fd, c->request + c->request_length, sizeof c->request - c->request_length, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        close_connection(c);
        return;
    }
    c->request_length += got > 0 ? (size_t)got : 0;
    char *end = memmem(c->request, c->request_length, "\r\n\r\n", 4);
    if (end == NULL && c->request_length < sizeof c->request)
        return;
    /* No proxy sends a second request before the answer to the first. */
    size_t length = end == NULL ? 0 : (size_t)(end + 4 - c->request);
    bool is_strange = length != c->request_length || c->left > 0 || c->pending_length > 0;
    c->request[c->request_length - 1] = '\0';
    c->request_length = 0;
    answer(c, is_strange || announces_body(c->request));
}

static void on_event(struct connection *c, uint32_t events)
{
    if (!c->is_closing && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_requests(c);
    if (c->is_closing || !(events & EPOLLOUT) || !flush(c))
        return;
    if (c->left == 0)
        wait_to_write(c, false);
    else if (c->gap_ns == 0)
        send_some(c);
    else if (c->is_stalled)
        send_due(c, now_ns());
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        if (c == NULL)
            give_up("out of memory");
        c->fd = fd;
        send_at_once(fd);
        watch(epoll, fd, EPOLLIN, c);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        give_up("cannot accept: %s", strerror(errno));
}

static void serve_due(void)
{
    uint64_t now = now_ns();
    while (due.count > 0 && due.items[1]->due_ns <= now) {
        struct connection *c = due.items[1];
        heap_remove(c);
        send_due(c, now);
    }
    uint64_t next = due.count > 0 ? due.items[1]->due_ns : 0;
    if (next != due.timer_at_ns)
        set_timer(timer, due.timer_at_ns = next);
}

static void report(void)
{
    printf("{\"requests\":%llu,\"streams\":%llu,\"events\":%llu,\"bad_requests\":%llu,\"abandoned\":%llu,"
           "\"behind_most_ms\":%.3f,\"cpu_s\":%.6f}\n",
           (unsigned long long)seen.requests, (unsigned long long)seen.streams,
           (unsigned long long)seen.events, (unsigned long long)seen.bad_requests,
           (unsigned long long)seen.abandoned, (double)seen.behind_most_ns / 1e6, used_cpu_s());
}

static bool has_ended(int fd)
{
    char rest[256];
    ssize_t got = read(fd, rest, sizeof rest);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static void run(int listener)
{
    static char listener_token, timer_token, stdin_token;
    watch(epoll, listener, EPOLLIN, &listener_token);
    watch(epoll, timer, EPOLLIN | EPOLLET, &timer_token);
    watch(epoll, STDIN_FILENO, EPOLLIN, &stdin_token);
    for (;;) {
        struct epoll_event events[EVENTS_AT_ONCE];
        int count = epoll_wait(epoll, events, EVENTS_AT_ONCE, -1);
        for (int n = 0; n < count; n++) {
            void *token = events[n].data.ptr;
            if (token == &listener_token)
                accept_all(listener);
            else if (token == &stdin_token && has_ended(STDIN_FILENO))
                return;
            else if (token != &timer_token && token != &stdin_token)
                on_event(token, events[n].events);
        }
        serve_due();
        free_closed();
    }
}

int main(int count, char **arguments)
{
    if (count != 2)
        give_up("usage: source unix:/path | source 127.0.0.1:port");
    struct address address = parse_address(arguments[1]);
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    char body[129] = {0};
    memset(body, 'x', sizeof body - 1);
    small_answer_length = (size_t)snprintf(
        small_answer, sizeof small_answer,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n%s", body);
    epoll = open_epoll();
    timer = open_timer();
    int listener = listen_on(&address);
    printf("%u\n", bound_port(listener));
    fflush(stdout);
    run(listener);
    report();
    return seen.bad_requests > 0;
}
