import { describe, expect, it } from "vitest";
import { confirmation, remark, suspicion, workerLook } from "./status";
import { connector, job, progress, worker } from "./testing";

const at = (s: number) => `2026-01-01T00:00:0${s}.000Z`;
const pulse = { at: at(2), exact: true, source: "report" as const };

describe("when a connector's status was last confirmed", () => {
  it("is what the pulse says", () => {
    expect(confirmation(connector("c", { timestamp: at(1) }), pulse)).toBe(pulse);
  });

  it("is not known of a newer change, which may have been declared: only since when it stands is", () => {
    const changed = { at: at(3), exact: true, source: null, changed: true };
    expect(confirmation(connector("c", { timestamp: at(3) }), pulse)).toEqual(changed);
    expect(confirmation(connector("c", { timestamp: at(3) }), null)).toEqual(changed);
  });

  it("is by a job that it became active", () => {
    expect(confirmation(connector("c", { status: "active", timestamp: at(3) }), pulse)?.source).toBe("job");
  });

  it("is never when it was declared unknown", () => {
    expect(confirmation(connector("c", { status: "unknown", timestamp: at(3) }), pulse)).toBe(pulse);
    expect(confirmation(connector("c", { status: "unknown", timestamp: at(3) }), null)).toBeNull();
  });
});

describe("a worker that was told to stop", () => {
  const look = (more: Parameters<typeof worker>[1]) => workerLook(worker("w", { incarnation: "now", ...more }));

  it("is stopping, whether it is drained, too", () => {
    expect(look({ status: "draining", stopping: "now" })).toEqual({ word: "stopping", tone: "grey" });
    expect(look({ status: "draining", stopping: "now", orders: { drain: true } }).word).toBe("stopping");
  });

  it("is not one that was only drained, has left, or was stopped before", () => {
    expect(look({ status: "draining" })).toEqual({ word: "draining", tone: "yellow" });
    expect(look({ status: "offline", stopping: "now" }).word).toBe("offline");
    expect(look({ status: "draining", stopping: "before" }).word).toBe("draining");
  });
});

describe("a suspect worker", () => {
  const said = (now: number) => suspicion({ suspect_jobs: ["a", "b", "c"], suspect_until: at(9) }, Date.parse(at(0)) + now * 1000)?.reason;

  it("says in which order it gets jobs again; when, its server decides", () => {
    expect(said(0)).toMatch(
      /^suspect: broke 3 different jobs in a row; takes none until \d\d:\d\d:\d\d at the latest, then one at a time until one completes$/);
  });

  it("says so from the beginning, which is up to a second ahead of the page's time", () => {
    const until = new Date(Date.parse(at(0)) + 60_000).toISOString();
    expect(suspicion({ suspect_until: until }, Date.parse(at(0)) - 900)?.reason).toContain("takes none until");
  });

  it("says that it takes one at a time once it does", () => {
    const one = "suspect: broke 3 different jobs in a row; takes one at a time until one completes";
    expect([said(9), said(1_000)]).toEqual([one, one]);
    expect(said(-60), "by a clock that was ahead of this one").toBe(one);
  });

  it("is not any worker", () => expect(suspicion({}, 0)).toBeNull());
});

describe("what a worker says of a result", () => {
  const last = { ...progress("j", 1, 9), percent: 100, message: "ComfyUI dropped the outputs of the nodes 7" };

  it("stands in the last progress of a completed job", () => {
    expect(remark(job("j", { status: "completed", last_progress: last }))).toBe("ComfyUI dropped the outputs of the nodes 7");
  });

  it("is not where the work was last, nor of a job that did not complete", () => {
    for (const ordinary of [null, { ...last, message: null }, { ...last, node: "9" }, { ...last, step: 20, steps: 20 }]) {
      expect(remark(job("j", { status: "completed", last_progress: ordinary }))).toBeNull();
    }
    for (const status of ["failed", "in_progress"] as const) expect(remark(job("j", { status, last_progress: last }))).toBeNull();
  });
});
