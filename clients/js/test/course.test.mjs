// What a stream does next: the table that tests/unit/test_course.py holds Python to.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Course } from "../dist/course.js";
import { HttpError, RunFailed, RunStopped } from "../dist/index.js";

const RUN = "rrrrrrrrrrrrrrrrrrrrrrrrrr";
const table = readFileSync(new URL("../../../tests/clients/courses.json", import.meta.url), "utf8");

const steps = {
  next: (course) => course.next(),
  pause: (course) => Math.round(course.pause(1)) / 1000,
  after: (course) => course.after,
  heard: (course) => course.heard(),
  ended: (course) => course.ended(),
  event: (course, { id, ...event }) => course.event({ ...event, id: id ?? undefined }),
  looked: (course, record) => course.looked(record),
  replied: (course, { status, call_id = "", type = "", dialect = "", retry_after = "", body }) =>
    course.replied(status, { callId: call_id, type, dialect, retryAfter: retry_after }, body),
};

function step(course, name, given) {
  try {
    return steps[name](course, given);
  } catch (error) {
    if (error instanceof RunFailed && !(error instanceof RunStopped)) return `RunFailed ${error.code}`;
    if (error instanceof HttpError) return `CallRefused ${error.status}`;
    return error.name;
  }
}

for (const { name, attempts, run, after, steps } of JSON.parse(table.replaceAll("RUN", RUN))) {
  test(name, () => {
    const course = new Course(attempts, run || undefined, after);
    for (const [what, ...rest] of steps) {
      const expected = what === "heard" ? undefined : rest.pop();
      assert.equal(step(course, what, rest[0]), expected, `${what} ${JSON.stringify(rest)}`);
    }
  });
}
