#include "reply.h"

#include "event.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void reply_begin(struct reply *reply, on_event_f on_event, void *owner)
{
    memset(reply, 0, offsetof(struct reply, line));
    reply->line_length = reply->event_line_length = 0;
    reply->has_stamp = false;
    reply->on_event = on_event;
    reply->owner = owner;
}

/* Add to a line's beginning; what does not fit is left out, as only beginnings are looked at. */
static void keep_beginning(char *line, size_t capacity, size_t *length, const char *data, size_t more)
{
    size_t room = capacity - *length;
    size_t taken = more < room ? more : room;
    memcpy(line + *length, data, taken);
    *length += taken;
}

/* The body: lines, events, stamps. */

static void end_event_line(struct reply *reply)
{
    const char *line = reply->event_line;
    const size_t stamp_at = sizeof EVENT_BEGIN - 1;
    if (reply->event_line_length == 0) {
        if (reply->has_stamp)
            reply->on_event(reply->owner, reply->number, reply->sent_ns);
        reply->has_stamp = false;
    } else if (reply->event_line_length >= stamp_at + EVENT_STAMP_BYTES &&
               memcmp(line, EVENT_BEGIN, stamp_at) == 0) {
        char stamp[EVENT_STAMP_BYTES + 1];
        memcpy(stamp, line + stamp_at, EVENT_STAMP_BYTES);
        stamp[EVENT_STAMP_BYTES] = '\0';
        reply->number = strtoull(stamp, NULL, 10);
        reply->sent_ns = strtoull(stamp + EVENT_NUMBER_BYTES + 1, NULL, 10);
        reply->has_stamp = true;
    }
    reply->event_line_length = 0;
}

static void read_events(struct reply *reply, const char *data, size_t length)
{
    while (length > 0) {
        const char *newline = memchr(data, '\n', length);
        size_t part = newline == NULL ? length : (size_t)(newline - data);
        keep_beginning(reply->event_line, sizeof reply->event_line, &reply->event_line_length, data, part);
        if (newline == NULL)
            return;
        end_event_line(reply);
        data += part + 1;
        length -= part + 1;
    }
}

static size_t read_data(struct reply *reply, const char *data, size_t length, enum reply_state then)
{
    size_t part = length < reply->left ? length : (size_t)reply->left;
    reply->left -= part;
    reply->body_bytes += part;
    if (reply->on_event != NULL)
        read_events(reply, data, part);
    if (reply->left == 0)
        reply->state = then;
    return part;
}

/* The head and the framing: lines that end with CR LF. */

static bool names(const char *line, const char *name)
{
    return strncasecmp(line, name, strlen(name)) == 0;
}

static enum reply_state status_line(struct reply *reply, const char *line)
{
    if (strncmp(line, "HTTP/1.1 ", 9) != 0)
        return REPLY_BROKEN;
    reply->status = (unsigned)strtoul(line + 9, NULL, 10);
    return reply->status >= 200 && reply->status <= 599 ? REPLY_HEAD : REPLY_BROKEN;
}

static enum reply_state field_line(struct reply *reply, const char *line)
{
    if (names(line, "content-length:")) {
        if (reply->has_length)
            return REPLY_BROKEN;
        reply->has_length = true;
        reply->left = strtoull(line + 15, NULL, 10);
    } else if (names(line, "transfer-encoding:")) {
        reply->is_chunked = strcasecmp(line + 18 + strspn(line + 18, " \t"), "chunked") == 0;
        return reply->is_chunked ? REPLY_HEAD : REPLY_BROKEN;
    } else if (names(line, "connection:")) {
        reply->will_close = strcasestr(line + 11, "close") != NULL;
    }
    return strchr(line, ':') == NULL ? REPLY_BROKEN : REPLY_HEAD;
}

/* A body without a length and without chunks ends nowhere that could be checked: broken. */
static enum reply_state end_of_head(const struct reply *reply)
{
    if (reply->status == 0 || reply->has_length == reply->is_chunked)
        return REPLY_BROKEN;
    if (reply->is_chunked)
        return REPLY_CHUNK_SIZE;
    return reply->left > 0 ? REPLY_SIZED : REPLY_DONE;
}

static enum reply_state chunk_size_line(struct reply *reply, const char *line)
{
    char *end = NULL;
    reply->left = strtoull(line, &end, 16);
    if (strchr("0123456789abcdefABCDEF", line[0]) == NULL || line[0] == '\0' || (*end != '\0' && *end != ';'))
        return REPLY_BROKEN;
    return reply->left > 0 ? REPLY_CHUNK_DATA : REPLY_TRAILER;
}

static enum reply_state after_line(struct reply *reply, const char *line)
{
    switch (reply->state) {
    case REPLY_HEAD:
        if (line[0] == '\0')
            return end_of_head(reply);
        return reply->status == 0 ? status_line(reply, line) : field_line(reply, line);
    case REPLY_CHUNK_SIZE:
        return chunk_size_line(reply, line);
    case REPLY_CHUNK_END:
        return line[0] == '\0' ? REPLY_CHUNK_SIZE : REPLY_BROKEN;
    case REPLY_TRAILER:
        return line[0] == '\0' ? REPLY_DONE : REPLY_TRAILER;
    case REPLY_SIZED:
    case REPLY_CHUNK_DATA:
    case REPLY_DONE:
    case REPLY_BROKEN:
        break;
    }
    return REPLY_BROKEN;
}

static size_t read_line(struct reply *reply, const char *data, size_t length)
{
    const char *newline = memchr(data, '\n', length);
    size_t part = newline == NULL ? length : (size_t)(newline - data);
    bool ends_right = part > 0 ? data[part - 1] == '\r'
                               : reply->line_length > 0 && reply->line[reply->line_length - 1] == '\r';
    keep_beginning(reply->line, sizeof reply->line - 1, &reply->line_length, data, part);
    if (newline == NULL)
        return part;
    if (reply->line_length > 0 && reply->line[reply->line_length - 1] == '\r')
        reply->line_length--;
    reply->line[reply->line_length] = '\0';
    reply->line_length = 0;
    reply->state = ends_right ? after_line(reply, reply->line) : REPLY_BROKEN;
    return part + 1;
}

size_t reply_feed(struct reply *reply, const char *data, size_t length)
{
    size_t done = 0;
    while (done < length && reply->state != REPLY_DONE && reply->state != REPLY_BROKEN) {
        if (reply->state == REPLY_SIZED)
            done += read_data(reply, data + done, length - done, REPLY_DONE);
        else if (reply->state == REPLY_CHUNK_DATA)
            done += read_data(reply, data + done, length - done, REPLY_CHUNK_END);
        else
            done += read_line(reply, data + done, length - done);
    }
    return done;
}
