// A page that lies behind others: its messages come, but it draws no frame.

import type { Page } from "@playwright/test";

interface Frames {
  __frames?: { hidden: boolean; held: FrameRequestCallback[] };
}

/** Must be called before the page is opened. */
export async function canHide(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const frames = ((window as unknown as Frames).__frames = { hidden: false, held: [] as FrameRequestCallback[] });
    const draw = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (look) => (frames.hidden ? frames.held.push(look) : draw(look));
  });
}

export async function hide(page: Page): Promise<void> {
  await page.evaluate(() => { (window as unknown as Frames).__frames!.hidden = true; });
}

export async function show(page: Page): Promise<void> {
  await page.evaluate(() => {
    const frames = (window as unknown as Frames).__frames!;
    frames.hidden = false;
    for (const look of frames.held.splice(0)) requestAnimationFrame(look);
  });
}
