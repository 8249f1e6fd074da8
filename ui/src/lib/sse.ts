// Server-sent events out of a stream of text, as the HTML standard defines their lines. The
// browser's own EventSource cannot send an Authorization header, so pages read with `fetch`.

export interface SseEvent {
  /** `message` when the stream named none. */
  name: string;
  data: string;
  /** Only when this very event carried one: it ends a group. */
  id: string | null;
}

/** Cuts text that arrives in pieces into events. */
export class SseParser {
  /** Pieces of the line that has not ended yet; joined once, so a long line costs its length. */
  #open: string[] = [];
  #endedWithReturn = false;
  #name = "";
  #data: string[] = [];
  #id: string | null = null;

  /** The events that `text` completes. */
  push(text: string): SseEvent[] {
    const events: SseEvent[] = [];
    for (const line of this.#completeLines(text)) {
      if (line === "") this.#dispatch(events);
      else this.#field(line);
    }
    return events;
  }

  #completeLines(text: string): string[] {
    if (text === "") return [];
    // `\r\n` is one line end, also when it is cut in the middle.
    const piece = this.#endedWithReturn && text.startsWith("\n") ? text.slice(1) : text;
    this.#endedWithReturn = text.endsWith("\r");
    const [first = "", ...others] = piece.split(/\r\n|\n|\r/);
    this.#open.push(first);
    const last = others.pop();
    if (last === undefined) return [];
    const lines = [this.#open.join(""), ...others];
    this.#open = [last];
    return lines;
  }

  #field(line: string): void {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment, sent to keep the connection open
    const field = colon < 0 ? line : line.slice(0, colon);
    const raw = colon < 0 ? "" : line.slice(colon + 1);
    const value = raw.startsWith(" ") ? raw.slice(1) : raw;
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.#id = value;
  }

  #dispatch(events: SseEvent[]): void {
    if (this.#data.length > 0) {
      events.push({ name: this.#name || "message", data: this.#data.join("\n"), id: this.#id });
    }
    this.#name = "";
    this.#data = [];
    this.#id = null;
  }
}
