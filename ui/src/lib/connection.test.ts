import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Connection } from "./connection";
import { Feed } from "./feed";
import { machine, put, snapshot } from "./testing";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const line = (name: string, data: unknown, id?: string) =>
  `${id ? `id: ${id}\n` : ""}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;

type Answer = Response | Error | ((signal: AbortSignal) => Response);

/** A stream that says `pieces` one after the other, a piece every 5 s, and then nothing. */
function saying(...pieces: string[]): Answer {
  return (signal) => new Response(new ReadableStream({
    start: (stream) => {
      const say = () => {
        const piece = pieces.shift();
        if (piece) stream.enqueue(new TextEncoder().encode(piece));
      };
      say();
      const timer = setInterval(say, 5_000);
      signal.addEventListener("abort", () => {
        clearInterval(timer);
        stream.error(signal.reason);
      });
    },
  }));
}

/** A server that answers each request with the next of `answers`. */
function serve(answers: Answer[], token: string | null = null) {
  const asked: Headers[] = [];
  const feed = new Feed(() => Date.now());
  const connection = new Connection(feed, {
    url: "/api/v1/events",
    token: () => token,
    onChange: () => {},
    local: () => Date.now(),
    random: () => 1,
    fetch: async (_url, init) => {
      asked.push(new Headers(init?.headers));
      const answer = answers.shift();
      if (!answer) return new Promise(() => {}) as Promise<Response>;
      if (answer instanceof Error) throw answer;
      return answer instanceof Response ? answer : answer(init!.signal!);
    },
  });
  const running = connection.run();
  return { asked, feed, connection, running };
}

describe("the connection", () => {
  it("goes on where the stream broke off", async () => {
    const first = line("full_state_snapshot", snapshot())
      + line("machine_registered", put(12, "machine", machine("m")), "e1.12")
      + line("machine_registered", put(13, "machine", machine("half")));
    const { asked, feed, connection } = serve([new Response(first)]);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(asked[0]?.get("Last-Event-ID")).toBeNull();
    expect(asked[1]?.get("Last-Event-ID")).toBe("e1.12");
    expect([...feed.view.records.machine.keys()]).toEqual(["m"]);
    expect(feed.live.state).toBe("not_live");
    connection.stop();
  });

  it("waits longer each time, up to 3 s", async () => {
    const failures = Array.from({ length: 50 }, () => new TypeError("refused"));
    const { asked, feed, connection } = serve(failures);
    const at: number[] = [];
    for (let tenth = 0; tenth < 200; tenth += 1) {
      while (at.length < asked.length) at.push(tenth / 10);
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(at.slice(0, 7)).toEqual([0, 0.4, 1.2, 2.8, 5.8, 8.8, 11.8]);
    expect(feed.live).toMatchObject({ reason: "the server cannot be reached" });
    connection.stop();
  });

  it("asks for a token when refused, and tries again only when poked", async () => {
    const problem = () => Response.json({ detail: "a token is needed" }, { status: 401 });
    const { asked, feed, connection } = serve([problem(), problem()], "secret");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked.length).toBe(1);
    expect(asked[0]?.get("Authorization")).toBe("Bearer secret");
    expect(feed.live).toEqual({ state: "refused", reason: "a token is needed" });
    connection.poke();
    await vi.advanceTimersByTimeAsync(1);
    expect(asked.length).toBe(2);
    connection.stop();
  });

  it("starts over from a snapshot when the stream contradicts itself", async () => {
    const broken = line("full_state_snapshot", snapshot()) + "event: pulse\ndata: {\n\n";
    const { asked, connection } = serve([new Response(broken)]);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(asked.length).toBe(2);
    expect(asked[1]?.get("Last-Event-ID")).toBeNull();
    connection.stop();
  });

  it("gives up a connection that is silent for 20 s", async () => {
    const { asked, feed, connection } = serve([saying(line("full_state_snapshot", snapshot()))]);
    await vi.advanceTimersByTimeAsync(19_000);
    connection.tick();
    expect(asked.length).toBe(1);
    await vi.advanceTimersByTimeAsync(2_000);
    connection.tick();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(asked.length).toBe(2);
    expect(feed.live).toMatchObject({ reason: "no byte from the server for 20 s" });
    connection.stop();
  });

  it("leaves a server that has not been live for 15 s, for another may be, and says nothing new of it", async () => {
    const away = line("not_live", { reason: "the store is away", since: "2026-01-01T00:00:00.000Z" });
    const cutOff = () => saying(...Array<string>(12).fill(away));
    const begun = line("full_state_snapshot", snapshot()) + away;
    const { asked, feed, connection } = serve([saying(begun, ...Array<string>(11).fill(away)), cutOff(), cutOff()]);
    const at: number[] = [];
    const reasons = new Set<string>();
    for (let s = 0; s < 40; s += 1) {
      while (at.length < asked.length) at.push(s);
      await vi.advanceTimersByTimeAsync(1_000);
      connection.tick();
      reasons.add("reason" in feed.live ? feed.live.reason : feed.live.state);
    }
    expect(at).toEqual([0, 17, 33]);
    expect(asked[1]?.get("Last-Event-ID")).toBe("e1.10");
    expect([...reasons]).toEqual(["the store is away"]);
    connection.stop();
  });

  it("stays with a server that is live again within 15 s", async () => {
    const away = line("not_live", { reason: "the store is away", since: "2026-01-01T00:00:00.000Z" });
    const alive = line("bookmark", { epoch: "e1", seq: 10, at: "2026-01-01T00:00:10.000Z" });
    const { asked, connection } = serve([saying(line("full_state_snapshot", snapshot()), away, alive, away, away, alive, alive)]);
    for (let s = 0; s < 35; s += 1) {
      await vi.advanceTimersByTimeAsync(1_000);
      connection.tick();
    }
    expect(asked.length).toBe(1);
    connection.stop();
  });

  it("ends at once when the machine has slept, and takes nothing more from it", async () => {
    const alive = line("bookmark", { epoch: "e1", seq: 99, at: "2026-01-01T00:00:10.000Z" });
    const { asked, feed, connection } = serve([saying(line("full_state_snapshot", snapshot()), alive)]);
    await vi.advanceTimersByTimeAsync(4_900);
    feed.woke();
    connection.renew("it slept");
    await vi.advanceTimersByTimeAsync(2_000);
    expect(asked.length).toBe(2);
    expect(asked[1]?.get("Last-Event-ID")).toBe("e1.10");
    connection.stop();
  });

  it("stops", async () => {
    const { running, connection } = serve([new TypeError("refused")]);
    await vi.advanceTimersByTimeAsync(10);
    connection.stop();
    await running;
  });
});
