#include "ground.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 8192 };

_Noreturn void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double used_cpu_s(void)
{
    return (double)read_clock(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
}

uint64_t whole_number(const char *text, uint64_t low, uint64_t high, const char *what)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < low || value > high)
        give_up("%s is \"%s\": expected a whole number from %llu to %llu", what, text,
                (unsigned long long)low, (unsigned long long)high);
    return value;
}

uint64_t seconds_as_ns(const char *text, const char *what)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0.0 && value <= 86400.0))
        give_up("%s is \"%s\": expected seconds from 0 to 86400", what, text);
    return (uint64_t)(value * 1e9);
}

static struct address parse_unix(const char *path)
{
    struct address address = {.length = sizeof(struct sockaddr_un)};
    struct sockaddr_un *name = (struct sockaddr_un *)&address.name;
    name->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof name->sun_path)
        give_up("the path of a unix socket may have %zu bytes: %s", sizeof name->sun_path - 1, path);
    strcpy(name->sun_path, path);
    return address;
}

struct address parse_address(const char *text)
{
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5);
    char host[64];
    const char *colon = strrchr(text, ':');
    struct address address = {.length = sizeof(struct sockaddr_in)};
    struct sockaddr_in *name = (struct sockaddr_in *)&address.name;
    name->sin_family = AF_INET;
    if (colon == NULL || (size_t)(colon - text) >= sizeof host)
        give_up("\"%s\" is no address: expected unix:/path or 127.0.0.1:8080", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    if (inet_pton(AF_INET, host, &name->sin_addr) != 1)
        give_up("\"%s\" is no address: expected unix:/path or 127.0.0.1:8080", text);
    name->sin_port = htons((uint16_t)whole_number(colon + 1, 0, 65535, "the port"));
    return address;
}

int listen_on(const struct address *address)
{
    int family = address->name.ss_family, yes = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        give_up("no socket: %s", strerror(errno));
    if (family == AF_UNIX)
        unlink(((const struct sockaddr_un *)&address->name)->sun_path);
    else
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (const struct sockaddr *)&address->name, address->length) != 0 || listen(fd, BACKLOG) != 0)
        give_up("cannot listen: %s", strerror(errno));
    return fd;
}

unsigned bound_port(int fd)
{
    struct address own = {.length = sizeof own.name};
    if (getsockname(fd, (struct sockaddr *)&own.name, &own.length) != 0 || own.name.ss_family != AF_INET)
        return 0;
    return ntohs(((struct sockaddr_in *)&own.name)->sin_port);
}

int connect_to(const struct address *address)
{
    int fd = socket(address->name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    send_at_once(fd);
    if (connect(fd, (const struct sockaddr *)&address->name, address->length) == 0 || errno == EINPROGRESS)
        return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

void send_at_once(int fd)
{
    int yes = 1;
    /* Fails on a unix socket, which never waits. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int open_epoll(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        give_up("no epoll: %s", strerror(errno));
    return epoll;
}

static void control(int epoll, int operation, int fd, uint32_t events, void *token)
{
    struct epoll_event event = {.events = events, .data.ptr = token};
    if (epoll_ctl(epoll, operation, fd, &event) != 0)
        give_up("cannot wait for descriptor %d: %s", fd, strerror(errno));
}

void watch(int epoll, int fd, uint32_t events, void *token)
{
    control(epoll, EPOLL_CTL_ADD, fd, events, token);
}

void rewatch(int epoll, int fd, uint32_t events, void *token)
{
    control(epoll, EPOLL_CTL_MOD, fd, events, token);
}

int open_timer(void)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0)
        give_up("no timer: %s", strerror(errno));
    return timer;
}

void set_timer(int timer, uint64_t at_ns)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)},
    };
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}
