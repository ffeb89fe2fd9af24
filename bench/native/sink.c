/* The clients of a benchmark.
 *
 *   sink requests --to ADDRESS --path P --connections N --seconds S [--fresh]
 *       Small requests over N keep-alive connections, each asked again as soon as it is answered. Every
 *       request carries a traceparent header: always the same one, or with --fresh a new one each time.
 *   sink streams --to ADDRESS --path P --connections N --events E --ramp S --limit S
 *       N streams of E events each, begun evenly over the ramp, read to their end or to the limit.
 *   sink idle --to ADDRESS --path P --connections N --ramp S
 *       N connections with one request each, then held open: prints a line once all are answered, waits for
 *       stdin to end, and asks on each of them once more.
 *
 * Every answer's status, framing, length and number of events is checked; an answer that fails is counted
 * under its reason, never as completed, and its connection is not used again. Prints one JSON object. */
#include "event.h"
#include "ground.h"
#include "histogram.h"
#include "reply.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    REQUEST_LIMIT = 1024,
    READ_BYTES = 64 * 1024,
    SMALL_ANSWER_BYTES = 128,
    EVENTS_AT_ONCE = 256,
    MOST_CONNECTIONS = 100000,
};
#define LAST_ANSWERS_NS (10 * NS_PER_S) /* how long after the last request its answer may come */
#define RETRY_NS NS_PER_MS              /* a unix socket's backlog is full: ask again then */

enum mode { REQUESTS, STREAMS, IDLE };

static struct {
    enum mode mode;
    struct address to;
    const char *path;
    size_t connections;
    uint64_t events, seconds_ns, ramp_ns, limit_ns;
    bool is_fresh;
} options = {.path = "/", .connections = 1, .limit_ns = 60 * NS_PER_S};

struct connection {
    int fd;
    bool is_connecting;
    bool is_asking; /* a request was sent, or will be once the connection stands, and is not answered */
    uint64_t began_ns; /* when this request was made; of a stream when its connection was begun */
    uint64_t events;
    bool is_out_of_order;
    struct reply reply;
};

/* Everything a run counts, printed at its end. */
static struct {
    uint64_t completed, events, bytes, late_events, reconnected;
    uint64_t refused, bad_status, bad_framing, short_of_events, cut, timed_out;
    struct histogram latency; /* of an event from its stamp, of a small request from its sending */
    struct histogram first_event;
} seen;

static int epoll, timer;
static struct connection *connections;
static char request[REQUEST_LIMIT];
static size_t request_length;
static char *trace; /* where the trace id stands in the request */
static size_t begun, open_count, asking_count;
static uint64_t began_ns, ended_ns, last_request_ns, read_at_ns;

/* A mixed-up number for each n (splitmix64): fresh trace ids, and starts that do not beat in time. */
static uint64_t mixed(uint64_t n)
{
    n += 0x9e3779b97f4a7c15ULL * (n + 1);
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9ULL;
    n = (n ^ (n >> 27)) * 0x94d049bb133111ebULL;
    return n ^ (n >> 31);
}

static void write_request(void)
{
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: bench\r\nUser-Agent: tailrace-bench\r\nAccept: */*\r\n"
                          "traceparent: 00-%016llx%016llx-%016llx-01\r\n\r\n",
                          options.path, 1ULL, 2ULL, 3ULL);
    if (length >= (int)sizeof request)
        give_up("the path is too long");
    request_length = (size_t)length;
    trace = strstr(request, "00-") + 3;
}

static void freshen_trace(void)
{
    static uint64_t count;
    static const char digits[] = "0123456789abcdef";
    for (char *at = trace; at < trace + 32; at += 16) {
        uint64_t number = mixed(count++);
        for (int n = 0; n < 16; n++, number >>= 4)
            at[n] = digits[number & 15];
    }
}

static void set_asking(struct connection *c, bool is_asking)
{
    asking_count += (size_t)is_asking - (size_t)c->is_asking;
    c->is_asking = is_asking;
}

static void close_connection(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    set_asking(c, false);
    open_count--;
    ended_ns = read_at_ns = now_ns();
}

static void fail(struct connection *c, uint64_t *reason)
{
    ++*reason;
    close_connection(c);
}

static void on_stamp(void *owner, uint64_t number, uint64_t sent_ns)
{
    struct connection *c = owner;
    uint64_t latency = read_at_ns > sent_ns ? read_at_ns - sent_ns : 0;
    if (c->events == 0)
        histogram_add(&seen.first_event, read_at_ns - c->began_ns);
    if (number != c->events)
        c->is_out_of_order = true;
    c->events++;
    seen.events++;
    if (latency > NS_PER_S)
        seen.late_events++;
    histogram_add(&seen.latency, latency);
}

static void send_request(struct connection *c)
{
    if (options.is_fresh)
        freshen_trace();
    reply_begin(&c->reply, options.mode == STREAMS ? on_stamp : NULL, c);
    c->events = 0;
    c->is_out_of_order = false;
    set_asking(c, true);
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length)
        fail(c, &seen.cut);
}

static void ask(struct connection *c)
{
    c->began_ns = now_ns();
    send_request(c);
}

/* Connect and ask. False: the backlog is full, to be tried again. */
static bool begin(struct connection *c)
{
    c->fd = connect_to(&options.to);
    if (c->fd < 0 && errno == EAGAIN)
        return false;
    open_count++;
    c->began_ns = now_ns();
    if (c->fd < 0) {
        fail(c, &seen.refused);
        return true;
    }
    c->is_connecting = true;
    set_asking(c, true);
    watch(epoll, c->fd, EPOLLOUT, c);
    return true;
}

static void on_connected(struct connection *c)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
        fail(c, &seen.refused);
        return;
    }
    c->is_connecting = false;
    rewatch(epoll, c->fd, EPOLLIN, c);
    send_request(c);
}

/* Which count of failures a complete answer belongs to; NULL: it is as it should be. */
static uint64_t *what_is_wrong(const struct connection *c)
{
    if (c->reply.status != 200)
        return &seen.bad_status;
    if (options.mode == STREAMS && (c->events != options.events || c->is_out_of_order))
        return &seen.short_of_events;
    if (options.mode != STREAMS && c->reply.body_bytes != SMALL_ANSWER_BYTES)
        return &seen.bad_framing;
    return NULL;
}

/* A server may close a connection after an answer, if it says so: the next request takes a new one. */
static void ask_again(struct connection *c)
{
    if (!c->reply.will_close) {
        ask(c);
        return;
    }
    seen.reconnected++;
    close_connection(c);
    if (!begin(c))
        fail(c, &seen.refused);
}

static void on_answer(struct connection *c)
{
    uint64_t *wrong = what_is_wrong(c);
    set_asking(c, false);
    seen.bytes += c->reply.body_bytes;
    if (wrong != NULL) {
        fail(c, wrong);
        return;
    }
    seen.completed++;
    if (options.mode == STREAMS) {
        close_connection(c);
        return;
    }
    histogram_add(&seen.latency, read_at_ns - c->began_ns);
    if (options.mode == REQUESTS && read_at_ns < last_request_ns)
        ask_again(c);
    else if (options.mode == REQUESTS || c->reply.will_close)
        close_connection(c);
}

static void on_readable(struct connection *c)
{
    static char data[READ_BYTES];
    ssize_t got = recv(c->fd, data, sizeof data, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    read_at_ns = now_ns();
    if (got <= 0) {
        fail(c, &seen.cut);
        return;
    }
    size_t done = c->is_asking ? reply_feed(&c->reply, data, (size_t)got) : 0;
    if (c->reply.state == REPLY_BROKEN || done < (size_t)got)
        fail(c, &seen.bad_framing);
    else if (c->reply.state == REPLY_DONE)
        on_answer(c);
}

static void on_event(struct connection *c)
{
    if (c->fd < 0)
        return;
    if (c->is_connecting)
        on_connected(c);
    else
        on_readable(c);
}

/* Within its share of the ramp each start has a moment of its own: paced streams must not beat in time. */
static uint64_t start_of(size_t n)
{
    double place = (double)n + (double)(mixed(n) >> 11) / 9007199254740992.0;
    return began_ns + (uint64_t)(place * (double)options.ramp_ns / (double)options.connections);
}

/* Do what act says to each connection at its moment; when the next one is due, 0 if none is left. */
static uint64_t go_on_with_ramp(bool (*act)(struct connection *))
{
    while (begun < options.connections && start_of(begun) <= now_ns()) {
        if (!act(&connections[begun]))
            return now_ns() + RETRY_NS;
        begun++;
    }
    return begun < options.connections ? start_of(begun) : 0;
}

static bool ask_once_more(struct connection *c)
{
    if (c->fd >= 0)
        ask(c);
    return true;
}

/* One turn of the loop: wait until until_ns at most. False once stdin has ended. */
static bool turn(uint64_t until_ns)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    set_timer(timer, until_ns);
    int count = epoll_wait(epoll, events, EVENTS_AT_ONCE, -1);
    bool goes_on = true;
    for (int n = 0; n < count; n++) {
        if (events[n].data.ptr == &options)
            goes_on = false;
        else if (events[n].data.ptr != &timer)
            on_event(events[n].data.ptr);
    }
    return goes_on;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Drive the ramp and read on, until is_over or the deadline. */
static void drive(bool (*act)(struct connection *), bool (*is_over)(void), uint64_t deadline_ns)
{
    begun = 0;
    began_ns = now_ns();
    deadline_ns += began_ns;
    do {
        uint64_t next = go_on_with_ramp(act);
        if (next == 0 && is_over())
            return;
        turn(earlier(next, deadline_ns));
    } while (now_ns() < deadline_ns);
    seen.timed_out += options.connections - begun; /* those that were not even begun */
    for (size_t n = 0; n < begun; n++)
        if (connections[n].is_asking)
            fail(&connections[n], &seen.timed_out);
}

static bool is_all_closed(void)
{
    return open_count == 0;
}

static bool is_all_answered(void)
{
    return asking_count == 0;
}

static void hold(void)
{
    printf("{\"held\":%zu}\n", open_count);
    fflush(stdout);
    watch(epoll, STDIN_FILENO, EPOLLIN, &options);
    while (turn(0))
        continue;
    epoll_ctl(epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
}

static void run(void)
{
    last_request_ns = now_ns() + options.seconds_ns;
    if (options.mode == REQUESTS) {
        drive(begin, is_all_closed, options.seconds_ns + LAST_ANSWERS_NS);
    } else if (options.mode == STREAMS) {
        drive(begin, is_all_closed, options.limit_ns);
    } else {
        drive(begin, is_all_answered, options.ramp_ns + LAST_ANSWERS_NS);
        hold();
        drive(ask_once_more, is_all_answered, options.ramp_ns + LAST_ANSWERS_NS);
    }
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void report_quantiles(const char *name, const struct histogram *h)
{
    printf("\"%s\":{\"p50\":%.6f,\"p99\":%.6f,\"most\":%.6f},", name, ms(histogram_quantile(h, 0.50)),
           ms(histogram_quantile(h, 0.99)), ms(h->most));
}

static void report(uint64_t started_ns)
{
    printf("{\"completed\":%llu,\"events\":%llu,\"bytes\":%llu,\"late_events\":%llu,\"reconnected\":%llu,",
           (unsigned long long)seen.completed, (unsigned long long)seen.events,
           (unsigned long long)seen.bytes, (unsigned long long)seen.late_events,
           (unsigned long long)seen.reconnected);
    printf("\"failed\":{\"refused\":%llu,\"status\":%llu,\"framing\":%llu,\"events\":%llu,\"cut\":%llu,"
           "\"time\":%llu},",
           (unsigned long long)seen.refused, (unsigned long long)seen.bad_status,
           (unsigned long long)seen.bad_framing, (unsigned long long)seen.short_of_events,
           (unsigned long long)seen.cut, (unsigned long long)seen.timed_out);
    report_quantiles("latency_ms", &seen.latency);
    report_quantiles("first_event_ms", &seen.first_event);
    printf("\"seconds\":%.6f,\"cpu_s\":%.6f}\n", (double)(ended_ns - started_ns) / 1e9, used_cpu_s());
}

static void set_option(int which)
{
    switch (which) {
    case 't':
        options.to = parse_address(optarg);
        break;
    case 'p':
        options.path = optarg;
        break;
    case 'c':
        options.connections = (size_t)whole_number(optarg, 1, MOST_CONNECTIONS, "--connections");
        break;
    case 'e':
        options.events = whole_number(optarg, 1, UINT64_MAX, "--events");
        break;
    case 's':
        options.seconds_ns = seconds_as_ns(optarg, "--seconds");
        break;
    case 'r':
        options.ramp_ns = seconds_as_ns(optarg, "--ramp");
        break;
    case 'l':
        options.limit_ns = seconds_as_ns(optarg, "--limit");
        break;
    case 'f':
        options.is_fresh = true;
        break;
    default:
        exit(2);
    }
}

static enum mode mode_of(const char *text)
{
    static const char *const modes[] = {[REQUESTS] = "requests", [STREAMS] = "streams", [IDLE] = "idle"};
    for (int mode = REQUESTS; mode <= IDLE; mode++)
        if (strcmp(text, modes[mode]) == 0)
            return (enum mode)mode;
    give_up("\"%s\": expected requests, streams or idle", text);
}

static void read_options(int count, char **arguments)
{
    static const struct option known[] = {
        {"to", required_argument, NULL, 't'},      {"path", required_argument, NULL, 'p'},
        {"connections", required_argument, NULL, 'c'}, {"events", required_argument, NULL, 'e'},
        {"seconds", required_argument, NULL, 's'}, {"ramp", required_argument, NULL, 'r'},
        {"limit", required_argument, NULL, 'l'},   {"fresh", no_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    int which;
    if (count < 2)
        give_up("usage: sink requests|streams|idle --to ADDRESS [options]");
    options.mode = mode_of(arguments[1]);
    while ((which = getopt_long(count - 1, arguments + 1, "", known, NULL)) != -1)
        set_option(which);
    if (options.to.length == 0)
        give_up("--to is missing: where the requests go");
    if (options.mode == STREAMS && options.events == 0)
        give_up("--events is missing: how many events each stream has");
}

int main(int count, char **arguments)
{
    read_options(count, arguments);
    write_request();
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    epoll = open_epoll();
    timer = open_timer();
    watch(epoll, timer, EPOLLIN | EPOLLET, &timer);
    connections = calloc(options.connections, sizeof *connections);
    if (connections == NULL)
        give_up("out of memory");
    uint64_t started_ns = now_ns();
    run();
    report(started_ns);
    free(connections);
    return 0;
}
