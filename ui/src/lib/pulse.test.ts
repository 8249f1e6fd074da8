import { beforeEach, describe, expect, it } from "vitest";
import { Pulse } from "./pulse";
import type { PulseLane } from "./types";

const at = (s: number) => new Date(Date.UTC(2026, 0, 1) + s * 1000).toISOString();

/** A pulse of so many seconds after the beginning. */
const lane = (s: number, changes: boolean, workers: [string, number | null][], connectors: [string, number][] = []): PulseLane => ({
  as_of: { seq: 1, at: at(s) }, heard_since: at(s - 15), confirmed_since: at(s - 30), changes, machines: [],
  workers: workers.map(([id, heard]) => ({ id, heartbeat_at: heard === null ? null : at(heard) })),
  connectors: connectors.map(([id, confirmed]) => ({ id, confirmed_at: at(confirmed), source: "report" as const })),
});

let pulse: Pulse;
const heard = (id: string) => pulse.heartbeat("worker", id);

beforeEach(() => {
  pulse = new Pulse();
  pulse.take(lane(100, false, [["well", 98], ["gone", 20], ["new", null]], [["well:x", 80]]));
});

describe("when somebody was heard", () => {
  it("is what a whole pulse says", () => {
    expect(heard("well")).toEqual({ at: at(98), exact: true });
    expect(heard("gone")).toEqual({ at: at(20), exact: true });
    expect(heard("new")).toBeNull();
    expect(heard("never told of")).toBeNull();
    expect(pulse.confirmation("well:x")).toEqual({ at: at(80), exact: true, source: "report" });
  });

  it("is known as well as before while that is recent enough, and then as since when", () => {
    pulse.take(lane(110, true, []));
    expect(heard("well")).toEqual({ at: at(98), exact: true });
    pulse.take(lane(120, true, []));
    expect(heard("well")).toEqual({ at: at(105), exact: false });
    expect(pulse.confirmation("well:x")).toEqual({ at: at(90), exact: false, source: null });
  });

  it("stays what it was of who is silent, until that is told of again", () => {
    pulse.take(lane(120, true, []));
    expect(heard("gone")).toEqual({ at: at(20), exact: true });
    pulse.take(lane(125, true, [["gone", 124]]));
    expect(heard("gone")).toEqual({ at: at(124), exact: true });
    pulse.take(lane(150, true, []));
    expect(heard("gone")).toEqual({ at: at(135), exact: false });
  });

  it("is told exactly of who falls silent", () => {
    pulse.take(lane(115, true, [["well", 99]]));
    pulse.take(lane(200, true, []));
    expect(heard("well")).toEqual({ at: at(99), exact: true });
  });

  it("is not known of whom nothing is known any more, nor of whom a whole pulse leaves out", () => {
    pulse.take(lane(105, true, [["well", null]]));
    expect(heard("well")).toBeNull();
    pulse.take(lane(110, false, []));
    expect(heard("gone")).toBeNull();
  });
});
