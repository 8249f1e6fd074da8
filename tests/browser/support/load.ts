// How much work a page has: what it changes in its document, and how long its main thread is busy.

import type { Page } from "@playwright/test";

export interface Load {
  mutationsPerSecond: number;
  /** The part of the time that the main thread was computing, 0 to 1. */
  busy: number;
}

interface Counter {
  __mutations?: number;
}

/** Looks at a page for so many seconds. */
export async function loadOf(page: Page, seconds: number): Promise<Load> {
  await page.evaluate(() => {
    const counter = window as unknown as Counter;
    counter.__mutations = 0;
    new MutationObserver((records) => { counter.__mutations! += records.length; }).observe(document, {
      subtree: true, childList: true, attributes: true, characterData: true,
    });
  });
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const worked = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0;
  };
  const [began, before] = [performance.now(), await worked()];
  await page.waitForTimeout(seconds * 1000);
  const after = await worked();
  const mutations = await page.evaluate(() => (window as unknown as Counter).__mutations ?? 0);
  const took = (performance.now() - began) / 1000;
  return { mutationsPerSecond: mutations / took, busy: (after - before) / took };
}
