import { expect, it, vi } from "vitest";
import { labels } from "./labels.svelte";

const asked = vi.hoisted(() => [] as string[]);

vi.mock("../lib/api", () => ({
  api: {
    capabilities: async (digest: string) => {
      asked.push(digest);
      return { labels: { of: digest } };
    },
  },
}));

it("asks once for each digest, and keeps the labels of workers that are there", async () => {
  await labels.ask(["a", "b", "b"]);
  await labels.ask(["a", "b"]);
  expect(asked).toEqual(["a", "b"]);
  expect(labels.of("a")).toEqual(["of = a"]);
  await labels.ask(["b", "c"]);
  expect(asked).toEqual(["a", "b", "c"]);
  expect(labels.of("a")).toEqual([]);
  expect(labels.of("b")).toEqual(["of = b"]);
  const late = labels.ask(["d"]);
  await labels.ask([]);
  await late;
  expect(labels.of("d"), "its worker left meanwhile").toEqual([]);
  await labels.ask(["a"]);
  expect(asked, "it came back").toEqual(["a", "b", "c", "d", "a"]);
});
