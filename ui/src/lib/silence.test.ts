import { expect, it } from "vitest";
import { KNOWN_AFTER_MS, silentMs } from "./silence";
import { job, progress } from "./testing";

const now = Date.parse("2026-01-01T01:00:00.000Z");
const at = (secondsAgo: number) => new Date(now - secondsAgo * 1000).toISOString();
const running = job("j", { started_at: at(2400) });
const heard = { ...progress("j", 1, 3), last_event_at: at(20) };

it("says how long a job has said nothing", () => {
  expect(silentMs(running, heard, true, now, now)).toBe(20_000);
  expect(silentMs(job("j", { status: "assigned", started_at: null }), null, false, 0, now)).toBe(0);
});

it("says nothing of it before the page can know", () => {
  expect(silentMs(running, null, false, null, now), "not live").toBe(0);
  expect(silentMs(running, null, false, now - KNOWN_AFTER_MS, now), "a server that may be new").toBe(0);
  expect(silentMs(running, null, false, now - KNOWN_AFTER_MS - 1, now)).toBe(2_400_000);
  expect(silentMs(job("j", { started_at: at(8) }), null, false, now - 9_000, now), "seen from its start").toBe(8_000);
});

it("does not take what was told before a break for the last that the job has said", () => {
  expect(silentMs(running, heard, false, now - 1_000, now)).toBe(0);
  expect(silentMs(running, heard, false, now - KNOWN_AFTER_MS - 1, now), "nothing newer was told").toBe(20_000);
});

it("does not take the page's own silence for the job's", () => {
  expect(silentMs(running, heard, true, null, now), "not live").toBe(0);
  expect(silentMs(running, heard, true, 0, now - 12_000), "the server was heard 12 s ago").toBe(8_000);
  expect(silentMs(running, heard, true, 0, now - 30_000)).toBe(0);
});
