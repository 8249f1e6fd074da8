// A stored record is corrupted by hand: the monitor shows it as broken, the worker works on, and
// one click mends it.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Page } from "@playwright/test";
import { expect, ROOT, test } from "../support/fixtures";
import { Fleet } from "../support/fleet";
import { expectLive, expectShown, shown } from "../support/page";
import { expectEqualPictures } from "../support/picture";
import { Redis } from "../support/redis";

const WORKER = "box-worker-0";
const SUBJECT = `worker/${WORKER}`;

interface Finding { id: string; subject: string; cure: string }

/** The command line's doctor: what is wrong, and its exit code. */
async function doctor(fleet: Fleet, ...args: string[]): Promise<{ code: number; findings: Finding[] }> {
  const command = process.env["POINTSMAN"] ?? join(ROOT, "target/debug/pointsman");
  const run = promisify(execFile)(command, ["--server", fleet.address, "--json", "doctor", ...args]);
  const { code, stdout } = await run.then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: { code: number; stdout: string }) => error,
  );
  return { code, findings: (JSON.parse(stdout) as { findings: Finding[] }).findings };
}

/** A fleet whose worker's record names a machine that does not exist. */
async function corrupted(page: Page, fleet: Fleet): Promise<void> {
  await page.goto(fleet.address);
  await fleet.worker(WORKER, "box", "simulation:1");
  await expectShown(page, "worker", WORKER, "idle");
  expect(await doctor(fleet)).toEqual({ code: 0, findings: [] });
  await fleet.server.stop();
  await fleet.corruptMachineOf(WORKER, "box", "bix");
  await fleet.serveAgain();
  await expectLive(page, 20_000);
}

test("a corrupted worker is shown as broken, works on, and is repaired by one click", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await corrupted(page, fleet);
  const alert = page.locator(`[data-testid="alert"][data-id="inconsistent:${SUBJECT}"]`);
  await expect(alert).toContainText("its machine bix does not exist");
  await expect(alert).toContainText("it gets the machine that its connectors name");
  const broken = shown(page, "worker", WORKER).locator(`[data-subject="${SUBJECT}"]`);
  await expect(broken).toContainText("its machine bix does not exist");
  await expect(shown(page, "machine", "box")).toHaveCount(1);
  const job = await fleet.simulate(200);
  await expectShown(page, "job", job.id, "completed");
  await expectEqualPictures(page, fleet.address);

  await alert.getByTestId("repair").click();
  await expect(alert.getByRole("group")).toContainText(`Repair what is wrong with ${SUBJECT}?`);
  await alert.getByTestId("repair-yes").click();
  await expect(page.getByTestId("repair-outcome")).toContainText("repaired: its machine bix does not exist");
  await expect(shown(page, "worker", WORKER).getByTestId("repaired-here")).toContainText("repaired: its machine bix does not exist");
  await expect(page.getByTestId("alert")).toHaveCount(0);
  await expect(page.getByTestId("repair-outcome"), "the keyboard goes on from what became of it").toBeFocused();
  await expect(page.getByTestId("broken")).toHaveCount(0);
  await expect(shown(page, "machine", "box").locator(`[data-testid="worker"][data-id="${WORKER}"]`)).toHaveCount(1);
  const view = await expectEqualPictures(page, fleet.address);
  expect(view.workers[WORKER]).toMatchObject({ machine_id: "box", jobs_completed: 1 });
  expect(await doctor(fleet)).toEqual({ code: 0, findings: [] });
});

test("a worker corrupted on Redis by hand is noticed within seconds and mended by one click while it works", async ({
  page, pointsman, launch, dataDir,
}) => {
  const redis = await Redis.start(launch, dataDir);
  const fleet = await Fleet.begin(pointsman, dataDir, redis.address);
  await page.goto(fleet.address);
  await fleet.worker(WORKER, "box", "simulation:1");
  await expectShown(page, "worker", WORKER, "idle");
  const job = await fleet.simulate(6_000);
  await expectShown(page, "job", job.id, "in_progress");
  await redis.cli("HSET", `{pointsman:default}:${SUBJECT.replace("/", ":")}`, "machine_id", "unknown");

  const alert = page.locator(`[data-testid="alert"][data-id="inconsistent:${SUBJECT}"]`);
  await expect(alert).toContainText('machine_id is "unknown"', { timeout: 10_000 });
  await alert.getByTestId("repair").click();
  await alert.getByTestId("repair-yes").click();
  await expect(page.getByTestId("repair-outcome")).toContainText("repaired: ");
  await expect(page.getByTestId("alert")).toHaveCount(0);
  expect(await redis.cli("HGET", `{pointsman:default}:worker:${WORKER}`, "machine_id")).toBe("box");
  await expectShown(page, "job", job.id, "completed", 20_000);
  const view = await expectEqualPictures(page, fleet.address);
  expect(view.workers[WORKER]).toMatchObject({ machine_id: "box", jobs_completed: 1 });
  expect(await fleet.job(job.id)).toMatchObject({ attempt: 1, losses: 0 });
  expect(await doctor(fleet)).toEqual({ code: 0, findings: [] });
});

test("the card has the same button, and the command line mends as well", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await corrupted(page, fleet);
  const found = await doctor(fleet);
  expect(found.code).toBe(1);
  expect(found.findings.map((finding) => finding.id).sort()).toEqual([
    `contradiction:connector/${WORKER}:simulation`, `unknown_machine:${SUBJECT}`,
  ]);
  const broken = shown(page, "worker", WORKER).locator(`[data-subject="${SUBJECT}"]`);
  await broken.getByTestId("repair").click();
  await broken.getByRole("button", { name: "Keep as is" }).click();
  await expect(broken).toBeVisible();
  expect(await doctor(fleet, "--repair")).toEqual({ code: 0, findings: [] });
  await expect(broken).toHaveCount(0);
  await expectEqualPictures(page, fleet.address);
});
