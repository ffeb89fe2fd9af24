/* What source and sink stand on: time, addresses, sockets, and how they give up.
 * Linux only (epoll, timerfd). */
#ifndef GROUND_H
#define GROUND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define NS_PER_MS 1000000ULL
#define NS_PER_S 1000000000ULL

/* Print a message and end the program with status 2. For what the caller did wrong or the machine lacks. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* CLOCK_MONOTONIC, which is Python's time.monotonic_ns(): a stamp of one process can be read in another. */
uint64_t now_ns(void);

/* Seconds of CPU that this process has used. */
double used_cpu_s(void);

/* A whole number from low to high, or the end of the program. what names the option in the message. */
uint64_t whole_number(const char *text, uint64_t low, uint64_t high, const char *what);

/* Seconds as written (0.5), as nanoseconds, at most a day. */
uint64_t seconds_as_ns(const char *text, const char *what);

struct address {
    struct sockaddr_storage name;
    socklen_t length;
};

/* "unix:/path" or "127.0.0.1:8080" (IPv4 in figures; port 0 takes a free one when listening). */
struct address parse_address(const char *text);

/* A non-blocking listening socket. */
int listen_on(const struct address *address);

/* The port a TCP socket listens on; 0 for a unix socket. */
unsigned bound_port(int fd);

/* A non-blocking socket that is connected or being connected; -1 with errno (EAGAIN: the backlog is full). */
int connect_to(const struct address *address);

/* Small writes leave at once. Does nothing to a unix socket. */
void send_at_once(int fd);

/* As many descriptors as this process may have. */
void raise_descriptor_limit(void);

/* An epoll set, and the few calls on it that both programs make; token comes back in the event. */
int open_epoll(void);
void watch(int epoll, int fd, uint32_t events, void *token);
void rewatch(int epoll, int fd, uint32_t events, void *token);

/* A timer that an epoll set can wait for (watch it with EPOLLET: it needs no reading then). */
int open_timer(void);

/* Let the timer fire at this instant; 0: never. An instant that is over fires at once. */
void set_timer(int timer, uint64_t at_ns);

#endif
