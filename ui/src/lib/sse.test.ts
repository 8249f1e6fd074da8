import { describe, expect, it } from "vitest";
import { SseParser } from "./sse";

const STREAM = [
  ": hello\n\n",
  "id: 7c1f.18231\nevent: connector_status_changed\ndata: {\"seq\":18231}\n\n",
  "event: bookmark\r\ndata:{\"é\":\"…\"}\r\n\r\n",
  "data: one\ndata:  two\nretry: 10\nunknown\n\n",
  "event: nothing\n\n",
  "id\rdata\r\r",
  "data: unfinished\n",
].join("");

const EVENTS = [
  { name: "connector_status_changed", data: '{"seq":18231}', id: "7c1f.18231" },
  { name: "bookmark", data: '{"é":"…"}', id: null },
  { name: "message", data: "one\n two", id: null },
  { name: "message", data: "", id: "" },
];

describe("the event parser", () => {
  it("reads events, comments, all line ends, and several lines of data", () => {
    expect(new SseParser().push(STREAM)).toEqual(EVENTS);
  });

  it("reads the same however the text is cut", () => {
    for (let size = 1; size < 12; size += 1) {
      const parser = new SseParser();
      const events = [];
      for (let from = 0; from < STREAM.length; from += size) {
        events.push(...parser.push(STREAM.slice(from, from + size)));
      }
      expect(events, `pieces of ${size}`).toEqual(EVENTS);
    }
  });

  it("does not carry an id over to the next event", () => {
    const events = new SseParser().push("id: e.1\ndata: a\n\ndata: b\n\n");
    expect(events.map((event) => event.id)).toEqual(["e.1", null]);
  });
});
