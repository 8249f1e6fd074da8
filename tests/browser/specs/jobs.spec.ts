// What a job goes through stands in the badges of its connector and worker, all the way and back.

import { expect, test } from "../support/fixtures";
import { Fleet, sampled } from "../support/fleet";
import { historyOf, recordHistory } from "../support/history";
import { expectLive, expectShown, shown } from "../support/page";
import { expectEqualPictures } from "../support/picture";

const WORKER = "box-worker-0";

test("pending, in progress, completed: the connector is active and the worker busy meanwhile", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await recordHistory(page);
  await page.goto(fleet.address);
  const early = await fleet.simulate(1_500);
  await expectShown(page, "job", early.id, "pending");
  const second = await fleet.simulate(1_500);
  await expectShown(page, "job", second.id, "pending");

  await fleet.worker(WORKER, "box", "simulation:1");
  const connector = `${WORKER}:simulation`;
  await expectShown(page, "job", early.id, "in_progress");
  await expectShown(page, "connector", connector, "active");
  await expectShown(page, "worker", WORKER, "busy");
  await expect(shown(page, "worker", WORKER).getByRole("link")).toHaveAttribute("href", new RegExp(early.id));
  await expectShown(page, "job", second.id, "pending");

  await expectShown(page, "job", early.id, "completed");
  await expectShown(page, "job", second.id, "completed");
  await expectShown(page, "connector", connector, "idle");
  await expectShown(page, "worker", WORKER, "idle");
  await expectEqualPictures(page, fleet.address);
  for (const job of [early, second]) {
    const past = await historyOf(page, "job", job.id);
    expect(past.filter((status) => status !== "gone" && status !== "assigned")).toEqual(["pending", "in_progress", "completed"]);
  }
  // The end of one job and the claim of the next are one step: the badges never flickered.
  const once = (past: string[], status: string) => past.filter((each) => each === status).length === 1;
  expect(once(await historyOf(page, "connector", connector), "active")).toBe(true);
  expect(once(await historyOf(page, "worker", WORKER), "busy")).toBe(true);
});

test("a bad job fails, and its connector goes back to idle without an error", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await recordHistory(page);
  await page.goto(fleet.address);
  await fleet.worker(WORKER, "box", "simulation:1");
  const connector = `${WORKER}:simulation`;
  await expectShown(page, "connector", connector, "idle");

  const bad = await fleet.submit("simulation", { duration_ms: 800, fail: { kind: "bad_job", message: "no such prompt" } });
  await expectShown(page, "connector", connector, "active");
  await expectShown(page, "job", bad.id, "failed");
  await expect(shown(page, "job", bad.id)).toContainText("no such prompt");
  await expectShown(page, "connector", connector, "idle");
  await expectShown(page, "worker", WORKER, "idle");
  expect((await historyOf(page, "connector", connector)).slice(-3)).toEqual(["idle", "active", "idle"]);
  await expectEqualPictures(page, fleet.address);
});

test("a ComfyUI job shows node, step and percent, and then its picture; a bad one its node", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await recordHistory(page);
  await page.goto(fleet.address);
  const comfyui = await fleet.comfyui();
  await fleet.worker(WORKER, "box", `comfyui=${comfyui.address}`);
  const connector = `${WORKER}:comfyui`;
  await expectShown(page, "connector", connector, "idle");

  // A server that takes long to check a workflow lets "assigned" be seen.
  await faults(comfyui.address, { slow_validation_ms: 1_500 });
  const drawn = await fleet.submit("comfyui", sampled(160));
  const row = shown(page, "job", drawn.id);
  await expectShown(page, "job", drawn.id, "assigned");
  await expectShown(page, "connector", connector, "active");
  await expectShown(page, "worker", WORKER, "busy");
  await expectShown(page, "job", drawn.id, "in_progress");
  await expect(row).toContainText(/node 3, step \d+ of 160/);
  const percent = async () => Number(await row.getByRole("progressbar").getAttribute("aria-valuenow"));
  const early = await percent();
  await expect.poll(percent).toBeGreaterThan(early);
  await expect(row.getByTestId("preview")).toBeVisible();
  await expectShown(page, "job", drawn.id, "completed");
  await expectShown(page, "connector", connector, "idle");
  await expectShown(page, "worker", WORKER, "idle");
  await row.getByRole("link").first().click();
  await expect(page.getByTestId("job-panel").getByTestId("artifact-image")).toBeVisible();
  await page.keyboard.press("Escape");

  await faults(comfyui.address, {});
  const wrong = sampled(4) as { workflow: Record<string, { inputs: Record<string, unknown> }> };
  wrong.workflow["3"]!.inputs["sampler_name"] = "no-such-sampler";
  const bad = await fleet.submit("comfyui", wrong);
  await expectShown(page, "job", bad.id, "failed");
  await expectShown(page, "connector", connector, "idle");
  expect(await historyOf(page, "connector", connector)).not.toContain("error");
  await expectEqualPictures(page, fleet.address);
});

test("a job of a machine that is not there yet says why it waits, and is cancelled", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await page.goto(fleet.address);
  await expectLive(page);
  const job = await fleet.simulate(1_000);
  await expectShown(page, "job", job.id, "pending");
  await shown(page, "job", job.id).getByRole("link").click();
  await expect(page.getByTestId("explain")).toContainText(/no worker/i);
  await page.getByTestId("cancel").click();
  await page.getByTestId("cancel-yes").click();
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "cancelled");
  await expectEqualPictures(page, fleet.address);
});

async function faults(comfyui: string, faults: Record<string, unknown>): Promise<void> {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(`${comfyui}/sim/faults`, { method: "POST", headers, body: JSON.stringify(faults) });
  expect(response.ok).toBe(true);
}
