/* The form of an event, which the source writes and the sink reads. The rivals' handler writes it too
 * (bench/rivals/handler.py). It looks like a chunk of OpenAI's, so that a proxy treats it as one. */
#ifndef EVENT_H
#define EVENT_H

#define EVENT_BEGIN "data: {\"at\":\""
#define EVENT_STAMP "%010llu %020llu" /* the event's number in its stream, and when it was sent in ns */
#define EVENT_MIDDLE \
    "\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\""
#define EVENT_END "\"}}]}\n\n"

enum { EVENT_STAMP_BYTES = 31, EVENT_NUMBER_BYTES = 10 };

#endif
