import { describe, expect, it } from "vitest";
import {
  applyGroup, applyProgress, differences, emptyView, fromSnapshot, parsePosition, plain, waiting,
} from "./fold";
import { job, machine, progress, put, queues, removed, snapshot, worker } from "./testing";

const at = (seq: number) => ({ epoch: "e1", seq });

describe("the fold", () => {
  it("starts from a snapshot", () => {
    const view = fromSnapshot(snapshot({ machines: [machine("m")], workers: [worker("w")] }));
    expect(view.records.machine.get("m")?.id).toBe("m");
    expect(plain(view).workers).toHaveProperty("w");
    expect([view.epoch, view.seq, view.fleet]).toEqual(["e1", 10, "default"]);
  });

  it("replaces the whole record, and drops it when there is none", () => {
    const view = fromSnapshot(snapshot({ machines: [machine("m", { reason: "slow disk" })] }));
    applyGroup(view, [put(11, "machine", machine("m", { status: "degraded" }))], at(11));
    expect(view.records.machine.get("m")).toEqual(machine("m", { status: "degraded" }));
    applyGroup(view, [removed(12, "machine", "m")], at(12));
    expect(view.records.machine.size).toBe(0);
    expect(view.seq).toBe(12);
  });

  it("shows no job as waiting that has a record", () => {
    const view = fromSnapshot(snapshot({ jobs: [job("taken")] }));
    view.queues = queues(["taken", "waits"]);
    expect(waiting(view).map(({ id }) => id)).toEqual(["waits"]);
    applyGroup(view, [removed(11, "job", "taken")], at(11));
    expect(waiting(view).map(({ id }) => id)).toEqual(["taken", "waits"]);
  });

  it("does no harm when events come twice", () => {
    const events = [
      put(11, "worker", worker("w", { status: "busy" })),
      put(11, "job", job("j", { status: "assigned" })),
      removed(12, "worker", "gone"),
      put(12, "job", job("j", { status: "in_progress" })),
    ];
    const once = fromSnapshot(snapshot({ workers: [worker("w"), worker("gone")] }));
    applyGroup(once, events, at(12));
    const twice = fromSnapshot(snapshot({ workers: [worker("w"), worker("gone")] }));
    applyGroup(twice, events.slice(0, 2), at(11));
    applyGroup(twice, events, at(12));
    applyGroup(twice, events, at(12));
    expect(differences(plain(once), plain(twice))).toEqual([]);
  });

  it("is the same for a viewer from the beginning and one that joined later", () => {
    const events = Array.from({ length: 60 }, (_, n) =>
      n % 7 === 6
        ? removed(n + 1, "job", `j${n % 5}`)
        : put(n + 1, "job", job(`j${n % 5}`, { rev: n + 1, attempt: n })));
    const first = fromSnapshot(snapshot({ seq: 0 }));
    events.forEach((event, n) => {
      applyGroup(first, [event], at(n + 1));
      const joined = fromSnapshot(snapshot({ seq: n + 1, jobs: [...first.records.job.values()] }));
      for (const later of events.slice(n + 1)) applyGroup(joined, [later], at(later.seq));
      const whole = fromSnapshot(snapshot({ seq: 0 }));
      for (const each of events) applyGroup(whole, [each], at(each.seq));
      expect(differences(plain(joined), plain(whole))).toEqual([]);
    });
  });

  it("passes over a kind of record it does not know", () => {
    const view = fromSnapshot(snapshot());
    const stranger = { ...put(11, "job", job("j")), kind: "quota" as "job" };
    applyGroup(view, [stranger], at(11));
    expect(view.records.job.size).toBe(0);
    expect(view.seq).toBe(11);
  });
});

describe("progress", () => {
  const running = () => fromSnapshot(snapshot({ jobs: [job("j", { attempt: 2 })] }));

  it("is taken only for the record's attempt, and only when newer", () => {
    const view = running();
    applyProgress(view, [progress("j", 2, 5), progress("j", 1, 9), progress("j", 2, 4)]);
    expect(view.progress.get("j")?.n).toBe(5);
    applyProgress(view, [progress("other", 1, 1), progress("j", 2, 6)]);
    expect([...view.progress.keys()]).toEqual(["j"]);
    expect(view.progress.get("j")?.n).toBe(6);
  });

  it("goes when the attempt changes, when the job ends, and when it leaves the view", () => {
    const over = [
      put(11, "job", job("j", { attempt: 3 })),
      put(11, "job", job("j", { attempt: 2, completed_at: "2026-01-01T00:00:00.000Z" })),
      removed(11, "job", "j"),
    ];
    for (const event of over) {
      const view = running();
      applyProgress(view, [progress("j", 2, 5)]);
      applyGroup(view, [event], at(11));
      expect(view.progress.size).toBe(0);
    }
  });

  it("comes with a snapshot", () => {
    const lanes = {
      progress: { as_of: { seq: 10, at: "2026-01-01T00:00:00.000Z" }, values: [progress("j", 1, 3)] },
    };
    expect(fromSnapshot(snapshot({ jobs: [job("j")], lanes })).progress.get("j")?.n).toBe(3);
  });
});

describe("helpers", () => {
  it("reads positions, whatever the epoch's text", () => {
    expect(parsePosition("7c1f.18231")).toEqual({ epoch: "7c1f", seq: 18231 });
    expect(parsePosition("a.b.3")).toEqual({ epoch: "a.b", seq: 3 });
    for (const bad of ["", "5", ".5", "e.", "e.x"]) {
      expect(parsePosition(bad), bad).toBeNull();
    }
  });

  it("names every difference, whatever the order of keys", () => {
    expect(differences({ a: 1, b: [1, { c: null }] }, { b: [1, { c: null }], a: 1 })).toEqual([]);
    expect(differences({ a: 1, b: [1] }, { a: 2, b: [1, 2], c: 0 })).toEqual([
      "/a: 1 != 2", "/b/1: undefined != 2", "/c: undefined != 0",
    ]);
    expect(differences(plain(emptyView()), plain(emptyView()))).toEqual([]);
  });
});
