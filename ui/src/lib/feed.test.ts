import { beforeEach, describe, expect, it } from "vitest";
import { Feed, FeedError } from "./feed";
import { plain } from "./fold";
import { job, machine, progress, put, snapshot } from "./testing";

let now: number;
let feed: Feed;

beforeEach(() => {
  now = 1_000;
  feed = new Feed(() => now);
});

const say = (name: string, data: unknown, id: string | null = null) =>
  feed.accept({ name, data: JSON.stringify(data), id });
const T0 = Date.parse("2026-01-01T00:00:00.000Z");
const serverTime = (seconds: number) => new Date(T0 + seconds * 1000).toISOString();
const bookmark = (seq: number, seconds: number) =>
  say("bookmark", { epoch: "e1", seq, at: serverTime(seconds) });

describe("the feed", () => {
  it("applies a group only when its last line has come", () => {
    say("full_state_snapshot", snapshot());
    expect(say("machine_registered", put(11, "machine", machine("m")))).toEqual([]);
    expect(feed.view.records.machine.size).toBe(0);
    expect(feed.position).toBe("e1.10");
    const parts = say("job_assigned", put(11, "job", job("j")), "e1.11");
    expect(parts).toEqual(["records", "jobs"]);
    expect(feed.view.records.machine.size).toBe(1);
    expect(feed.position).toBe("e1.11");
  });

  it("forgets half a group when the connection breaks", () => {
    say("full_state_snapshot", snapshot());
    say("machine_registered", put(11, "machine", machine("half")));
    feed.lost("gone");
    say("machine_registered", put(12, "machine", machine("m")), "e1.12");
    expect(Object.keys(plain(feed.view).machines)).toEqual(["m"]);
  });

  it("replaces everything after a resync, and does not resume into the middle of one", () => {
    say("full_state_snapshot", snapshot({ machines: [machine("old")] }));
    say("resync", { reason: "rebuilt" });
    expect(feed.live).toMatchObject({ state: "resyncing", reason: "the server rebuilt its own picture" });
    expect(feed.position).toBeNull();
    say("full_state_snapshot", snapshot({ epoch: "e2", seq: 3, machines: [machine("new")] }));
    expect(Object.keys(plain(feed.view).machines)).toEqual(["new"]);
    expect(feed.live.state).toBe("live");
    expect(feed.position).toBe("e2.3");
  });

  it("moves its position on with bookmarks, but not inside a group", () => {
    say("full_state_snapshot", snapshot());
    bookmark(40, 0);
    expect(feed.position).toBe("e1.40");
    say("machine_registered", put(41, "machine", machine("m")));
    bookmark(50, 0);
    expect(feed.position).toBe("e1.40");
  });

  it("refuses what contradicts, so that the page starts over", () => {
    say("full_state_snapshot", snapshot());
    expect(() => say("bookmark", { epoch: "e2", seq: 1, at: serverTime(0) })).toThrow(FeedError);
    expect(() => say("x", put(11, "job", job("j")), "e2.11")).toThrow(FeedError);
    expect(() => feed.accept({ name: "pulse", data: "{", id: null })).toThrow(FeedError);
    expect(() => say("not_live", { reason: "away", since: "soon" })).toThrow(FeedError);
    feed.lost("contradiction", true);
    expect(feed.position).toBeNull();
  });

  it("takes lanes beside the log, without moving its position", () => {
    say("full_state_snapshot", snapshot({ jobs: [job("j")] }));
    const as_of = { seq: 99, at: serverTime(1) };
    expect(say("progress", { as_of, values: [progress("j", 1, 1)] })).toEqual(["progress"]);
    expect(say("pulse", { as_of, workers: [], machines: [], connectors: [] })).toEqual(["pulse"]);
    expect(say("queues", { as_of, pending: [], classes: [], counts: {} })).toEqual(["queues"]);
    expect(feed.position).toBe("e1.10");
  });

  it("knows of which jobs this stream has told, whatever it holds from one before", () => {
    const as_of = { seq: 10, at: serverTime(1) };
    const tells = (n: number) => say("progress", { as_of, values: [progress("j", 1, n)] });
    say("full_state_snapshot", snapshot({ jobs: [job("j")] }));
    expect(feed.view.told.has("j")).toBe(false);
    tells(7);
    expect(feed.view.told.has("j")).toBe(true);
    feed.lost("the server restarts");
    expect([feed.view.told.has("j"), feed.view.progress.get("j")?.n]).toEqual([false, 7]);
    tells(6);
    expect(feed.view.told.has("j"), "older than what the page holds").toBe(false);
    tells(7);
    expect(feed.view.told.has("j"), "the same again").toBe(true);
  });
});

describe("being live", () => {
  it("ends by itself after 15 s without bookmark or pulse, and comes back with one", () => {
    say("full_state_snapshot", snapshot());
    now += 15_000;
    say("machine_registered", put(11, "machine", machine("m")), "e1.11");
    expect(feed.tick()).toBe(false);
    now += 1;
    expect(feed.tick()).toBe(true);
    expect(feed.live).toMatchObject({ state: "not_live", since: T0 });
    bookmark(12, 15.001);
    expect(feed.live).toEqual({ state: "live" });
  });

  it("tells the server's own reason and since when", () => {
    say("full_state_snapshot", snapshot());
    say("not_live", { reason: "the store does not answer", since: serverTime(7) });
    expect(feed.live).toEqual({
      state: "not_live", reason: "the store does not answer", since: T0 + 7_000,
    });
  });

  it("does not begin with a snapshot that the server itself does not vouch for", () => {
    say("full_state_snapshot", snapshot());
    say("not_live", { reason: "the store is away", since: serverTime(-60) });
    say("queues", { as_of: { seq: 9, at: serverTime(0) }, pending: [], classes: [], counts: {} });
    expect(feed.live).toMatchObject({ state: "not_live", reason: "the store is away" });
    bookmark(10, 5);
    expect(feed.live).toEqual({ state: "live" });
  });

  it("keeps the time of the first break over several failures to connect", () => {
    say("full_state_snapshot", snapshot());
    now += 3_000;
    feed.lost("the server closed the stream");
    now += 5_000;
    feed.lost("the server cannot be reached");
    expect(feed.live).toEqual({
      state: "not_live", reason: "the server cannot be reached", since: T0,
    });
  });
});

describe("a machine that slept", () => {
  it("is not live at once, and knows how old its picture is", () => {
    say("full_state_snapshot", snapshot());
    now += 3_000 + 14 * 3_600_000;
    feed.woke();
    expect(feed.live).toMatchObject({ state: "not_live", since: T0 });
    expect(feed.clock.now() - T0).toBe(3_000 + 14 * 3_600_000);
    now += 1_000;
    feed.lost("the server cannot be reached");
    expect(feed.live).toMatchObject({ reason: "the server cannot be reached", since: T0 });
  });

  it("believes the next message over all before, as its clock may have been set instead", () => {
    say("full_state_snapshot", snapshot());
    now += 3_600_000;
    feed.woke();
    bookmark(11, 1);
    expect(feed.clock.now()).toBe(T0 + 1_000);
    bookmark(12, 0.5); // a late one
    expect(feed.clock.now()).toBe(T0 + 1_000);
  });
});

describe("the server's clock", () => {
  it("is believed over ours, with the least delayed of the newest messages", () => {
    say("full_state_snapshot", snapshot());
    expect(feed.clock.now()).toBe(T0);
    now += 5_000;
    bookmark(11, 4.8); // 200 ms on its way
    expect(feed.clock.now()).toBe(T0 + 5_000);
    for (let n = 0; n < 8; n += 1) bookmark(12, 2); // it was set back
    expect(feed.clock.now()).toBe(T0 + 2_000);
  });
});
