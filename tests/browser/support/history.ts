// What a page has shown since it was opened, status by status: what flashed by counts too.

import type { Page } from "@playwright/test";

interface Recorder {
  __shown?: Record<string, string[]>;
}

/** Must be called before the page is opened; its records begin anew whenever it is opened again. */
export async function recordHistory(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const shown: Record<string, string[]> = {};
    (window as unknown as Recorder).__shown = shown;
    const look = () => {
      const now = new Map<string, string>();
      for (const element of document.querySelectorAll<HTMLElement>("[data-testid][data-id][data-status]")) {
        const { testid, id, status } = element.dataset;
        const key = `${testid} ${id}`;
        const former = now.get(key);
        now.set(key, former && former !== status ? `${former} and ${status}` : status ?? "");
      }
      for (const key of new Set([...Object.keys(shown), ...now.keys()])) {
        const past = (shown[key] ??= []);
        const status = now.get(key) ?? "gone";
        if (past.at(-1) !== status) past.push(status);
      }
    };
    new MutationObserver(look).observe(document, {
      subtree: true, childList: true, attributes: true, attributeFilter: ["data-status"],
    });
  });
}

/** The statuses that the page has shown of one record, in order; "gone" where it was not shown. */
export async function historyOf(page: Page, testid: string, id: string): Promise<string[]> {
  return page.evaluate((key) => (window as unknown as Recorder).__shown?.[key] ?? [], `${testid} ${id}`);
}
