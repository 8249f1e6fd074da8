// Records that are odd, or broken: each is shown, and none takes anything else along.

import type { Page } from "@playwright/test";
import { detailsOf } from "../support/details";
import { expect, test } from "../support/fixtures";
import { Fleet } from "../support/fleet";
import { expectLive, expectShown, shown } from "../support/page";

/** The attempts that they list, the newest first. */
async function attemptsOf(page: Page, address: string, name: string): Promise<string[]> {
  const panel = await detailsOf(page, address, name);
  const lines = await panel.getByTestId("attempt").allInnerTexts();
  await page.keyboard.press("Escape");
  return lines;
}

test("the details of a job list each attempt once, the last among the earlier ones too, and which result counts", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  await expectLive(page);
  const list = (name: string) => attemptsOf(page, address, name);
  expect(await list("lost")).toEqual([expect.stringMatching(/^Attempt 1, run 1\s+given back/)]);
  expect(await list("cancelled")).toEqual([expect.stringMatching(/^Attempt 1, run 1\s+given back/)]);
  expect(await list("late")).toEqual([expect.stringMatching(/^Attempt 1, run 1\s+given back[^]*its late result ended the job$/)]);
  expect(await list("overtaken")).toEqual([
    expect.stringMatching(/^Attempt 2, run 1\s+overtaken/), expect.stringMatching(/^Attempt 1[^]*its late result ended the job$/),
  ]);
  expect(await list("late after its end")).toEqual([expect.stringMatching(/^Attempt 1, run 1\s+failed[^]*a late result was kept[^]*\.png/)]);
});

test("the files of a late result that did not count are shown, and had, with its attempt", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  await expectLive(page);
  const panel = await detailsOf(page, address, "late after its end");
  const file = panel.getByTestId("attempt").getByTestId("artifact");
  await expect(file.getByTestId("artifact-image")).toBeVisible();
  const path = await file.getByRole("link").last().getAttribute("href");
  expect(path).toMatch(/\/artifacts\/[^/]+\?attempt=1$/);
});

test("a job that was lost for good shows its one attempt", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await page.goto(fleet.address);
  const worker = await fleet.worker("box-worker-0", "box", "simulation:1");
  const job = await fleet.simulate(60_000, { max_losses: 0 });
  await expectShown(page, "job", job.id, "in_progress");
  await worker.kill();
  await expectShown(page, "job", job.id, "failed", 30_000);
  await shown(page, "job", job.id).getByRole("link").click();
  await expect(page.getByTestId("failure")).toContainText("lost");
  await expect(page.getByTestId("attempt")).toHaveText(/^Attempt 1, run 1\s+given back/);
});

test("a class whose phrases are equal is listed, and nothing beside it breaks", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  await expectLive(page);
  await expect(page.locator('[data-testid="class"][data-id="c-alike"] .chip').filter({ hasText: "GPUs ≥ 2" })).toHaveCount(2);
  await expect(page.locator("#ended").getByTestId("job").first()).toBeVisible();
});

test("a record that cannot be shown says so in its place, until it can; all else goes on", async ({ page, mock }) => {
  const { address } = await mock();
  await page.clock.install();
  await page.goto(address);
  await expectLive(page);
  await fetch(`${address}/mock/spoil`);
  await page.clock.runFor(1_000);
  const card = shown(page, "machine", "gpu-box-1");
  await expect(card.getByTestId("broken-part")).toContainText("gpu-box-1 cannot be shown");
  await expect(shown(page, "worker", "gpu-box-2-worker-0")).toBeVisible();
  await page.locator('[data-testid="job"][data-status="pending"]').last().getByRole("link").click();
  await expect(page.getByTestId("explain"), "the page still answers").toContainText("workers");
  await page.keyboard.press("Escape");
  await page.getByTestId("filter").fill("gpu-box-2");
  await page.clock.runFor(1_000);
  await expect(card, "no filter hides what is broken").toBeVisible();
  await expect(shown(page, "machine", "gpu-box-2")).toBeVisible();
  await expect(page.getByTestId("machine")).toHaveCount(2);
  await page.getByTestId("filter").fill("");
  await fetch(`${address}/mock/mend`);
  await page.clock.runFor(11_000);
  await expect(page.getByTestId("broken-part")).toHaveCount(0);
  await expect(shown(page, "worker", "gpu-box-1-worker-0")).toBeVisible();
});

test("a repair that could not be decided is not told as done", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  const alert = page.locator('[data-testid="alert"][data-id="inconsistent:index/meta"]');
  await alert.getByTestId("repair").click();
  await alert.getByTestId("repair-yes").click();
  const outcome = page.getByTestId("repair-outcome");
  await expect(outcome).toContainText("undecided");
  await expect(outcome).not.toContainText("nothing is wrong");
  await expect(outcome).toHaveClass(/tone-yellow/);
});
