// Server, worker and service die and come back, with a page open all the time: nothing is lost,
// nothing is stuck, and nobody has to reload anything.

import { expect, test } from "../support/fixtures";
import { Fleet, type JobRecord, sampled } from "../support/fleet";
import { historyOf, recordHistory } from "../support/history";
import { expectLive, expectShown, shown } from "../support/page";
import { expectEqualPictures } from "../support/picture";

const WORKER = "box-worker-0";
const SIMULATION = `${WORKER}:simulation`;
const COMFYUI = `${WORKER}:comfyui`;

test("the server is killed and starts again: running jobs go on, waiting ones wait on", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await recordHistory(page);
  await page.goto(fleet.address);
  await fleet.worker(WORKER, "box", "simulation:1");
  const running = await fleet.simulate(7_000);
  const waiting: JobRecord[] = [];
  for (let n = 0; n < 4; n += 1) waiting.push(await fleet.simulate(200));
  await expectShown(page, "job", running.id, "in_progress");

  await fleet.server.kill();
  await expect(page.getByTestId("not-live")).toContainText("Not live");
  await fleet.serveAgain();
  await expectLive(page, 20_000);
  await expect(page.getByTestId("not-live")).toHaveCount(0);
  await expectEqualPictures(page, fleet.address);

  for (const job of [running, ...waiting]) await expectShown(page, "job", job.id, "completed", 20_000);
  await expectShown(page, "worker", WORKER, "idle");
  await expectShown(page, "connector", SIMULATION, "idle");
  expect(await fleet.job(running.id)).toMatchObject({ attempt: 1, losses: 0, failures: 0 });
  const view = await expectEqualPictures(page, fleet.address);
  expect(Object.values(view.jobs).map((job) => job["ended_no"]).sort()).toEqual([1, 2, 3, 4, 5]);
  expect(view.workers[WORKER]).toMatchObject({ jobs_completed: 5, jobs_failed: 0 });
  expect(await historyOf(page, "worker", WORKER)).not.toContain("offline");
});

test("the server is asked to stop and starts again", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await page.goto(fleet.address);
  await fleet.worker(WORKER, "box", "simulation:1");
  const job = await fleet.simulate(5_000);
  await expectShown(page, "job", job.id, "in_progress");
  await fleet.server.stop();
  await expect(page.getByTestId("not-live")).toContainText("Not live");
  await fleet.serveAgain();
  await expectLive(page, 20_000);
  await expectShown(page, "job", job.id, "completed", 15_000);
  expect(await fleet.job(job.id)).toMatchObject({ attempt: 1, losses: 0 });
  await expectShown(page, "worker", WORKER, "idle");
  await expectEqualPictures(page, fleet.address);
});

test("what a job told the server before a restart is not the last that it has said", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await page.goto(fleet.address);
  const worker = await fleet.worker(WORKER, "box", "simulation:1");
  const job = await fleet.simulate(40_000);
  const row = shown(page, "job", job.id);
  await expect(row).toContainText("step 1 of 20");
  const seconds = async () => Number.parseInt(await row.locator(".elapsed").innerText(), 10);
  const pass = async (more: number) => {
    const from = await seconds();
    await expect.poll(seconds).toBeGreaterThanOrEqual(from + more);
  };

  await fleet.server.kill();
  worker.signal("SIGSTOP");
  await pass(6);
  await fleet.serveAgain();
  await expectLive(page, 20_000);
  await pass(2);
  expect(await row.getByTestId("silent").allInnerTexts(), "this server was told nothing yet").toEqual([]);
  worker.signal("SIGCONT");
  await expect(row).toContainText(/step ([5-9]|1\d) of 20/);
  await fetch(`${fleet.address}/api/v1/jobs/${job.id}/cancel`, { method: "POST" });
  await expectShown(page, "job", job.id, "cancelled");
});

test("a worker is killed at work and starts again: its job runs once more", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await recordHistory(page);
  await page.goto(fleet.address);
  const first = await fleet.worker(WORKER, "box", "simulation:1");
  const job = await fleet.simulate(3_000);
  await expectShown(page, "job", job.id, "in_progress");
  await first.kill();

  const second = await fleet.worker(WORKER, "box", "simulation:1");
  await expectShown(page, "job", job.id, "completed", 20_000);
  expect(await fleet.job(job.id)).toMatchObject({ status: "completed", attempt: 2, losses: 1, failures: 0 });
  await expectShown(page, "worker", WORKER, "idle");
  await expectShown(page, "connector", SIMULATION, "idle");
  const view = await expectEqualPictures(page, fleet.address);
  expect(view.workers[WORKER]).toMatchObject({ incarnation: second.address, jobs_completed: 1 });
  // It kept its machine, and neither ever left the page.
  expect(view.workers[WORKER]?.["machine_id"]).toBe("box");
  expect(await historyOf(page, "worker", WORKER)).not.toContain("gone");
  expect(await historyOf(page, "machine", "box")).toEqual(["ready"]);
});

test("a worker says goodbye and comes back", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await page.goto(fleet.address);
  const first = await fleet.worker(WORKER, "box", "simulation:1");
  await expectShown(page, "worker", WORKER, "idle");
  const job = await fleet.simulate(4_000);
  await expectShown(page, "job", job.id, "in_progress");
  first.signal("SIGTERM");
  const status = shown(page, "worker", WORKER).locator(".line .status");
  await expect(status, "it takes no more").toHaveText("stopping", { timeout: 2_000 });
  await expectShown(page, "job", job.id, "completed");
  await expectShown(page, "worker", WORKER, "offline");
  await expectShown(page, "connector", SIMULATION, "offline");
  await expectShown(page, "machine", "box", "offline");
  await expectEqualPictures(page, fleet.address);
  await fleet.worker(WORKER, "box", "simulation:1");
  await expectShown(page, "worker", WORKER, "idle");
  await expectShown(page, "connector", SIMULATION, "idle");
  await expectShown(page, "machine", "box", "ready");
  await expectEqualPictures(page, fleet.address);
});

test("ComfyUI dies at work and comes back: its connector says so, and the job runs once more", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await recordHistory(page);
  await page.goto(fleet.address);
  const comfyui = await fleet.comfyui();
  await fleet.worker(WORKER, "box", `comfyui=${comfyui.address}`);
  await expectShown(page, "connector", COMFYUI, "idle");
  const job = await fleet.submit("comfyui", sampled(120));
  await expectShown(page, "job", job.id, "in_progress");
  await expectShown(page, "connector", COMFYUI, "active");

  await comfyui.kill();
  await expectShown(page, "job", job.id, "pending", 20_000);
  await expectShown(page, "connector", COMFYUI, /^(error|offline|connecting)$/, 20_000);
  await expect(shown(page, "connector", COMFYUI)).toContainText(/refused|reach|connect/i);
  await expectEqualPictures(page, fleet.address);

  await fleet.comfyui(new URL(comfyui.address).host);
  await expectShown(page, "job", job.id, "completed", 30_000);
  await expectShown(page, "connector", COMFYUI, "idle");
  await expectShown(page, "worker", WORKER, "idle");
  expect(await fleet.job(job.id)).toMatchObject({ attempt: 2, losses: 1, failures: 0 });
  await expectEqualPictures(page, fleet.address);
});
