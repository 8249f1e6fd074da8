// What a page shows, against what the server says, record by record.

import type { Page } from "@playwright/test";
import { expect } from "@playwright/test";

const KINDS = ["machines", "workers", "connectors", "alerts", "jobs"] as const;
type Kind = (typeof KINDS)[number];

export interface PlainView extends Record<Kind, Record<string, Record<string, unknown>>> {
  epoch: string;
  seq: number;
  fleet: string;
}

type Snapshot = Record<Kind, { id: string }[]> & { epoch: string; seq: number; fleet: string };

/** The view that a page has folded. */
export async function viewOf(page: Page): Promise<PlainView> {
  return page.evaluate(() => {
    const tools = (window as unknown as { __pointsman: { view: () => unknown } }).__pointsman;
    return tools.view();
  }) as Promise<PlainView>;
}

/** The server's own view now, in the same form. */
export async function viewAt(address: string, token?: string): Promise<PlainView> {
  const headers: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};
  const snapshot = (await (await fetch(`${address}/api/v1/snapshot`, { headers })).json()) as Snapshot;
  const byId = (records: { id: string }[]) => Object.fromEntries(records.map((record) => [record.id, record]));
  const { epoch, seq, fleet } = snapshot;
  const kinds = KINDS.map((kind) => [kind, byId(snapshot[kind])] as const);
  return { epoch, seq, fleet, ...Object.fromEntries(kinds) } as PlainView;
}

/** Waits until page and server stand at one seq, and demands that they are equal there. */
export async function expectEqualPictures(page: Page, address: string): Promise<PlainView> {
  let pair: [PlainView, PlainView] | undefined;
  await expect(async () => {
    const shown = await viewOf(page);
    const true_ = await viewAt(address);
    expect(`${shown.epoch}.${shown.seq}`).toBe(`${true_.epoch}.${true_.seq}`);
    pair = [shown, true_];
  }).toPass({ intervals: [50], timeout: 15_000 });
  if (!pair) throw new Error("page and server never stood at one seq");
  expect(pair[0]).toEqual(pair[1]);
  return pair[0];
}

/** The statuses that stand in the page itself, by id, of one kind of record. */
export async function shownStatuses(page: Page, testid: string): Promise<Record<string, string>> {
  const pairs = await page.getByTestId(testid).evaluateAll((elements) =>
    elements.map((element) => [element.dataset["id"] ?? "", element.dataset["status"] ?? ""]));
  return Object.fromEntries(pairs);
}

/** The statuses of a view's records, by id. */
export function statuses(records: Record<string, Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(records).map(([id, record]) => [id, record["status"]]));
}

/**
 * What differs by nature between two fleets that did the same: times, positions, drawn ids, counts of messages, and
 * which of two jobs beside each other ends first.
 */
const BY_NATURE = /^(rev|token|incarnation|former_incarnations|place|queued_seq|ended_no|n|preview_n|timestamp|last_status_change|.*_at)$/;

/**
 * A view without what differs by nature between two fleets that did the same: times, positions,
 * drawn ids. Jobs go by the `name` in their metadata.
 */
export function comparable(view: PlainView): Record<Kind, unknown> {
  const names = new Map(Object.values(view.jobs).map((job) => [job["id"], (job["metadata"] as { name: string }).name]));
  const strip = (value: unknown): unknown => {
    if (typeof value === "string") return names.get(value) ?? value;
    if (Array.isArray(value)) return value.map(strip);
    if (typeof value !== "object" || value === null) return value;
    const kept = Object.entries(value).filter(([key]) => !BY_NATURE.test(key));
    return Object.fromEntries(kept.map(([key, inner]) => [names.get(key) ?? key, strip(inner)]));
  };
  return Object.fromEntries(KINDS.map((kind) => [kind, strip(view[kind])])) as Record<Kind, unknown>;
}
