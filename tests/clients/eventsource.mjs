// The eventsource package: a browser's EventSource for Node.
import { EventSource } from "eventsource";
import { watch } from "./watch.mjs";

export const read = (url) => watch(EventSource, url);
