// How much work a page has: what it changes in its document.

import type { Page } from "@playwright/test";

interface Counter {
  __mutations?: number;
}

/** Counts for so many seconds. */
export async function changesASecond(page: Page, seconds: number): Promise<number> {
  await page.evaluate(() => {
    const counter = window as unknown as Counter;
    counter.__mutations = 0;
    new MutationObserver((records) => { counter.__mutations! += records.length; }).observe(document, {
      subtree: true, childList: true, attributes: true, characterData: true,
    });
  });
  const began = performance.now();
  await page.waitForTimeout(seconds * 1000);
  const mutations = await page.evaluate(() => (window as unknown as Counter).__mutations ?? 0);
  return mutations / ((performance.now() - began) / 1000);
}
