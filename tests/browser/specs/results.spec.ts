// Result files: pictures are fetched when somebody sees them, and what cannot be had says why.

import type { Page } from "@playwright/test";
import { expect, test } from "../support/fixtures";
import { expectLive } from "../support/page";

const PIXEL = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
const FILES = "**/api/v1/jobs/*/artifacts/*";

/** So many jobs of this browser, with a picture each. */
async function withPictures(page: Page, address: string, n: number): Promise<void> {
  await page.getByLabel("How many").fill(String(n));
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("my-job")).toHaveCount(n);
  await fetch(`${address}/mock/end_all`);
  await expect(page.locator('[data-testid="my-job"][data-status="completed"]')).toHaveCount(n);
}

test("pictures are fetched as they come into sight, few at once, and let go again", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  const asked = new Set<string>();
  const open = { now: 0, most: 0 };
  await page.route(FILES, async (route) => {
    asked.add(route.request().url());
    open.most = Math.max(open.most, (open.now += 1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    open.now -= 1;
    await route.fulfill({ contentType: "image/png", body: PIXEL });
  });
  await page.clock.install();
  await page.goto(`${address}/client`);
  await expectLive(page);
  await withPictures(page, address, 80);
  const pictures = page.getByTestId("artifact-image");
  await expect(page.getByTestId("my-job").first().getByTestId("artifact-image")).toBeVisible();
  expect(asked.size).toBeLessThan(20);

  await page.getByTestId("my-job").last().scrollIntoViewIfNeeded();
  await expect(page.getByTestId("my-job").last().getByTestId("artifact-image")).toBeVisible();
  expect(open.most).toBeLessThanOrEqual(4);
  await page.clock.fastForward("01:00");
  await expect(page.getByTestId("my-job").first().getByTestId("artifact-image")).toHaveCount(0);
  expect(await pictures.count()).toBeLessThan(20);
  await page.getByTestId("my-job").first().scrollIntoViewIfNeeded();
  await expect(page.getByTestId("my-job").first().getByTestId("artifact-image")).toBeVisible();
});

test("a picture that could not be had is asked for again when it comes back into sight, or the server does", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  let away = true;
  await page.route(FILES, (route) => (away ? route.abort("connectionrefused") : route.continue()));
  await page.clock.install();
  await page.goto(`${address}/client`);
  await expectLive(page);
  await withPictures(page, address, 20);
  const first = page.getByTestId("my-job").first();
  await expect(first).toContainText("no picture");
  away = false;
  await page.getByTestId("my-job").last().scrollIntoViewIfNeeded();
  await expect(page.getByTestId("my-job").last().getByTestId("artifact-image")).toBeVisible();
  await first.scrollIntoViewIfNeeded();
  await expect(first.getByTestId("artifact-image")).toBeVisible();

  away = true;
  await page.reload();
  await expect(first).toContainText("no picture");
  away = false;
  await fetch(`${address}/mock/cut`);
  await expect(first.getByTestId("artifact-image")).toBeVisible();
});

test("a file that cannot be had with the token says why", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty", "--token", "secret");
  await page.goto(`${address}/client`);
  await page.getByLabel("Access token").fill("secret");
  await page.getByRole("button", { name: "Use token" }).click();
  await expectLive(page);
  await withPictures(page, address, 1);
  await expect(page.getByTestId("artifact-image")).toBeVisible();
  const file = page.getByTestId("artifact").getByRole("link").last();
  const gone = { title: "The file is not kept any more", status: 410, code: "gone", cure: "retry the job" };
  await page.route(FILES, (route) => route.fulfill({ status: 410, contentType: "application/problem+json", json: gone }));
  await file.click();
  await expect(page.getByTestId("problem")).toHaveAttribute("data-code", "gone");
  await page.unroute(FILES);
  await page.route(FILES, (route) => route.abort("connectionrefused"));
  await file.click();
  await expect(page.getByTestId("problem")).toHaveAttribute("data-code", "unreachable");
  await page.unroute(FILES);
  const download = page.waitForEvent("download");
  await file.click();
  expect((await download).suggestedFilename()).toMatch(/\.png$/);
  await expect(page.getByTestId("problem")).toHaveCount(0);
});
