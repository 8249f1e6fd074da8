import { beforeEach, describe, expect, it, vi } from "vitest";
import { access } from "./access.svelte";
import { setToken, token } from "./token";

// The page looks for a token as soon as it is there.
vi.hoisted(() => {
  const stored = new Map<string, string>();
  vi.stubGlobal("sessionStorage", {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
    removeItem: (key: string) => void stored.delete(key),
  });
});

let asked: (string | null)[] = [];

beforeEach(() => {
  asked = [];
  setToken("good");
  access.isAsked = true;
});

/** How the server answers a request for the stream. */
function serve(answer: () => Response | Promise<Response>) {
  vi.stubGlobal("fetch", (_path: string, init: RequestInit) => {
    asked.push(new Headers(init.headers).get("authorization"));
    return Promise.resolve().then(answer);
  });
}

const refusal = () => Response.json({ title: "A token is needed", code: "unauthorized" }, { status: 401 });

describe("another token", () => {
  it("replaces the one in use once the server has taken it, and its stream is let go of", async () => {
    const cancel = vi.fn();
    serve(() => new Response(new ReadableStream({ cancel })));
    await access.use(" better ", new AbortController().signal);
    expect(asked).toEqual(["Bearer better"]);
    expect([token(), access.isAsked, cancel.mock.calls.length]).toEqual(["better", false, 1]);
  });

  it("leaves the one in use where the server refuses it, or cannot be asked", async () => {
    for (const answer of [refusal, () => Promise.reject(new TypeError("no network"))]) {
      serve(answer);
      await expect(access.use("mistyped", new AbortController().signal)).rejects.toThrow();
      expect([token(), access.isAsked]).toEqual(["good", true]);
    }
  });

  it("is refused before it is asked about where no token can be so, and that says why", async () => {
    serve(() => new Response(null));
    for (const [pasted, why] of [["\u201cpm_ab\u201d", "\u201c, U+201C"], ["pm_\u200bab", "(U+200B)"], ["\u2022\u2022\u2022\u2022", "U+2022"], ["pm_a b", "(U+0020)"], ["pt\u00fc", "\u00fc, U+00FC"]] as const) {
      await expect(access.use(pasted, new AbortController().signal)).rejects.toThrow(why);
    }
    expect([asked, token(), access.isAsked]).toEqual([[], "good", true]);
  });

  it("does not wait for a server that does not answer", async () => {
    const timeout = vi.spyOn(AbortSignal, "timeout").mockReturnValue(AbortSignal.abort());
    vi.stubGlobal("fetch", (_path: string, { signal }: RequestInit) =>
      signal!.aborted ? Promise.reject(signal!.reason) : new Promise(() => {}));
    await expect(access.use("better", new AbortController().signal)).rejects.toThrow();
    expect([token(), access.isAsked, timeout.mock.calls]).toEqual(["good", true, [[10_000]]]);
    timeout.mockRestore();
  });

  it("leaves the one in use where it was decided to keep it meanwhile", async () => {
    const trial = new AbortController();
    serve(() => {
      trial.abort();
      return new Response(null);
    });
    await expect(access.use("better", trial.signal)).rejects.toThrow();
    expect(token()).toBe("good");
  });
});
