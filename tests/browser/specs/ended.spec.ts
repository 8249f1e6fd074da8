// Ended jobs by how they ended: the list has no holes and nothing of another store, whatever
// happened while nobody looked.

import type { Page } from "@playwright/test";
import { expect, test } from "../support/fixtures";
import { canHide, hide, show } from "../support/hidden";
import { expectLive } from "../support/page";
import { viewOf } from "../support/picture";

const rows = (page: Page, status: string) => page.locator(`#ended [data-testid="job"][data-status="${status}"]`);

async function openTab(page: Page, name: string): Promise<void> {
  await page.locator("#ended").getByRole("button", { name }).click();
  await expect(page.locator("#ended").getByRole("button", { name })).toHaveAttribute("aria-pressed", "true");
}

const crowd = (address: string, n: number, status: string, age = 0) => fetch(`${address}/mock/crowd?n=${n}&status=${status}&age=${age}`);
const seqOf = async (page: Page) => (await viewOf(page)).seq;

test("failures that passed the view while the page was hidden are listed when it is shown again", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await canHide(page);
  await page.goto(address);
  await expectLive(page);
  await openTab(page, "failed");
  await crowd(address, 3, "failed");
  await expect(rows(page, "failed")).toHaveCount(3);

  await hide(page);
  const before = await seqOf(page);
  await crowd(address, 7, "failed");
  await crowd(address, 250, "completed");
  await crowd(address, 2, "failed");
  await expect.poll(() => seqOf(page)).toBeGreaterThan(before + 258);
  await expect(rows(page, "failed")).toHaveCount(3);
  await show(page);
  await expect(rows(page, "failed")).toHaveCount(12);
});

test("a store that came back from before, while the page was hidden, leaves nothing of the former one", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await canHide(page);
  await page.goto(address);
  await expectLive(page);
  await openTab(page, "failed");
  await crowd(address, 300, "completed");
  await crowd(address, 5, "failed");
  await expect(rows(page, "failed")).toHaveCount(5);

  await hide(page);
  const { epoch } = await viewOf(page);
  await fetch(`${address}/mock/restore?n=3`);
  await expect.poll(async () => (await viewOf(page)).epoch).not.toBe(epoch);
  await show(page);
  await expect(rows(page, "failed")).toHaveCount(2);
  await crowd(address, 1, "failed");
  await expect(rows(page, "failed")).toHaveCount(3);
});

test("the details of a job are those of the store that is there now", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await canHide(page);
  await page.goto(address);
  await expectLive(page);
  await crowd(address, 1, "failed");
  await rows(page, "failed").getByRole("link").click();
  await page.getByTestId("retry").click();
  await page.getByTestId("retry-yes").click();
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "pending");
  // It comes back from before that retry.
  await fetch(`${address}/mock/restore?n=0`);
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "failed");
});

test("a job that was retried is no more listed by its former end, however many wait before it", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await page.goto(`${address}/client`);
  await page.getByLabel("Simulation").check();
  await page.getByLabel("How many").fill("250");
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("my-job")).toHaveCount(200);
  await crowd(address, 2, "failed");

  await page.goto(address);
  await openTab(page, "failed");
  await expect(rows(page, "failed")).toHaveCount(2);
  await rows(page, "failed").first().getByRole("link").click();
  await page.getByTestId("retry").click();
  await page.getByTestId("retry-yes").click();
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "pending");
  await page.keyboard.press("Escape");
  await expect(rows(page, "failed")).toHaveCount(1);
});

test("a job that was submitted long before the others, and failed after them, is listed first", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await crowd(address, 250, "failed");
  await crowd(address, 1, "failed", 86_400);
  // So the view has none of them.
  await crowd(address, 250, "completed");
  await page.goto(address);
  await expectLive(page);
  await openTab(page, "failed");
  await expect(rows(page, "failed")).toHaveCount(200);
  const { jobs } = (await (await fetch(`${address}/api/v1/jobs?status=failed&order=ended&limit=1`)).json()) as { jobs: { id: string }[] };
  await expect(rows(page, "failed").first()).toHaveAttribute("data-id", jobs[0]?.id ?? "");
});

test("a page that has as many as it keeps says so, and what lists the others", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await crowd(address, 1_300, "failed");
  await page.goto(address);
  await expectLive(page);
  await openTab(page, "failed");
  for (const n of [400, 600, 800, 1_000]) {
    await page.getByTestId("older").click();
    await expect(rows(page, "failed")).toHaveCount(n);
  }
  await expect(page.getByTestId("older")).toHaveCount(0);
  await expect(page.getByTestId("full")).toContainText("pointsman jobs --ended --status failed");
});
