// What tests look for on the pages.

import { expect, type Locator, type Page } from "@playwright/test";

/** The element of one record: a machine, worker, connector or job. */
export function shown(page: Page, testid: "machine" | "worker" | "connector" | "job", id: string): Locator {
  return page.locator(`[data-testid="${testid}"][data-id="${id}"]`);
}

/** Waits until the page shows the record in this status. */
export async function expectShown(
  page: Page, testid: Parameters<typeof shown>[1], id: string, status: string | RegExp, timeout?: number,
): Promise<void> {
  await expect(shown(page, testid, id)).toHaveAttribute("data-status", status, timeout ? { timeout } : {});
}

export async function expectLive(page: Page, timeout?: number): Promise<void> {
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live", timeout ? { timeout } : {});
}
