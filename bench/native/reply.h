/* Reads one HTTP/1.1 response and the events in it, strictly: what is not as it should be is told. */
#ifndef REPLY_H
#define REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reply_state {
    REPLY_HEAD,
    REPLY_SIZED,
    REPLY_CHUNK_SIZE,
    REPLY_CHUNK_DATA,
    REPLY_CHUNK_END,
    REPLY_TRAILER,
    REPLY_DONE,
    REPLY_BROKEN,
};

/* Called for each complete event that carries a stamp: its number in the stream and when it was sent. */
typedef void (*on_event_f)(void *owner, uint64_t number, uint64_t sent_ns);

struct reply {
    enum reply_state state;
    unsigned status;
    bool has_length, is_chunked, will_close;
    uint64_t left; /* bytes of the sized body or of this chunk that have not come yet */
    uint64_t body_bytes;
    char line[256]; /* the beginning of a line of the head or of the framing that is not complete */
    size_t line_length;
    char event_line[80]; /* the same for a line of the body: enough to hold a stamp */
    size_t event_line_length;
    bool has_stamp;
    uint64_t number, sent_ns; /* of the event that is being read, if it has a stamp */
    on_event_f on_event;
    void *owner;
};

/* Ready to read a response. on_event may be NULL: then the body is only counted. */
void reply_begin(struct reply *reply, on_event_f on_event, void *owner);

/* Read on. How many bytes were read: fewer than length only if the response is over, well or not. */
size_t reply_feed(struct reply *reply, const char *data, size_t length);

#endif
