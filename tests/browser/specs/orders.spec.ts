// Whether the monitor is opened before the machine starts or after it must make no difference.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { expect, test } from "../support/fixtures";
import { Fleet, sampled } from "../support/fleet";
import { historyOf, recordHistory } from "../support/history";
import { expectLive, expectShown } from "../support/page";
import { comparable, expectEqualPictures, shownStatuses, statuses } from "../support/picture";

const SIMULATION = "box-worker-0:simulation";
const COMFYUI = "box-worker-1:comfyui";

type Stage = "machine up" | "jobs at work" | "all ended";
/** What to look at the fleet with, at each stage. */
type Look = (stage: Stage) => Promise<Page>;

/** Starts a machine and runs jobs on it; hands back the picture at each stage. */
async function play(fleet: Fleet, look: Look): Promise<Record<Stage, unknown>> {
  const comfyui = await fleet.comfyui();
  await fleet.worker("box-worker-0", "box", "simulation:2");
  await fleet.worker("box-worker-1", "box", `comfyui=${comfyui.address}`);
  await reports(fleet, SIMULATION, "idle");
  await reports(fleet, COMFYUI, "idle");
  const up = await look("machine up");
  await expectShown(up, "machine", "box", "ready");
  await expectShown(up, "worker", "box-worker-0", "idle");
  await expectShown(up, "worker", "box-worker-1", "idle");
  const machineUp = await pictureOf(up, fleet);

  const fails = { duration_ms: 300, fail: { kind: "bad_job", message: "asked to fail" } };
  const bad = await fleet.submit("simulation", fails, { metadata: { name: "bad" } });
  await reaches(fleet, bad.id, "failed");
  const drawn = await fleet.submit("comfyui", sampled(240), { metadata: { name: "drawn" } });
  const long = await fleet.simulate(8_000, { metadata: { name: "long" } });
  await reaches(fleet, drawn.id, "in_progress");
  await reaches(fleet, long.id, "in_progress");
  const working = await look("jobs at work");
  await expectShown(working, "job", drawn.id, "in_progress");
  await expectShown(working, "job", long.id, "in_progress");
  const jobsAtWork = await pictureOf(working, fleet);

  await reaches(fleet, drawn.id, "completed");
  await reaches(fleet, long.id, "completed");
  const ended = await look("all ended");
  await expectShown(ended, "job", long.id, "completed");
  const allEnded = await pictureOf(ended, fleet);
  return { "machine up": machineUp, "jobs at work": jobsAtWork, "all ended": allEnded };
}

/** The picture of a page, which must be the server's own, as records and as what stands in the page. */
async function pictureOf(page: Page, fleet: Fleet): Promise<unknown> {
  const view = await expectEqualPictures(page, fleet.address);
  await expect(async () => {
    expect(await shownStatuses(page, "machine")).toEqual(statuses(view.machines));
    expect(await shownStatuses(page, "worker")).toEqual(statuses(view.workers));
    expect(await shownStatuses(page, "connector")).toEqual(statuses(view.connectors));
    expect(await shownStatuses(page, "job")).toEqual(statuses(view.jobs));
  }).toPass({ timeout: 15_000 });
  return comparable(view);
}

async function reports(fleet: Fleet, connector: string, status: string): Promise<void> {
  await expect.poll(async () => {
    const snapshot = await (await fetch(`${fleet.address}/api/v1/snapshot`)).json() as
      { connectors: { id: string; status: string }[] };
    return snapshot.connectors.find(({ id }) => id === connector)?.status;
  }).toBe(status);
}

async function reaches(fleet: Fleet, job: string, status: string): Promise<void> {
  await expect.poll(async () => (await fleet.job(job)).status, { timeout: 60_000 }).toBe(status);
}

/** One page that is there from the beginning. */
async function before(page: Page, fleet: Fleet): Promise<Look> {
  await recordHistory(page);
  await page.goto(fleet.address);
  await expectLive(page);
  return async () => page;
}

/** A new page at each stage. */
function after(page: Page, fleet: Fleet, opened: Page[] = []): Look {
  return async () => {
    const fresh = await page.context().newPage();
    opened.push(fresh);
    await fresh.goto(fleet.address);
    return fresh;
  };
}

test("monitor first, then the machine: everything appears and goes on as it happens", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  const look = await before(page, fleet);
  await expect(page.getByTestId("machine")).toHaveCount(0);
  await play(fleet, look);

  // Nothing that appeared was ever gone again, and every badge went through its job and back.
  for (const connector of [SIMULATION, COMFYUI]) {
    const past = await historyOf(page, "connector", connector);
    expect(past).not.toContain("gone");
    expect(past.at(-1)).toBe("idle");
    expect(past).toContain("active");
  }
  expect(await historyOf(page, "machine", "box")).toEqual(["ready"]);
  expect(await historyOf(page, "worker", "box-worker-1")).toEqual(expect.arrayContaining(["idle", "busy"]));
});

test("machine first, then the monitor: a page shows at once what is so", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  const opened: Page[] = [];
  await play(fleet, after(page, fleet, opened));

  // Whenever a page came, in the end they all show the same.
  const [first, ...others] = await Promise.all(opened.map((each) => expectEqualPictures(each, fleet.address)));
  expect(others).toHaveLength(2);
  for (const other of others) expect(other).toEqual(first);
});

test("the two orders give equal pictures, record by record", async ({ page, pointsman, dataDir }) => {
  const begin = async (name: string) => {
    const data = join(dataDir, name);
    await mkdir(data);
    return Fleet.begin(pointsman, data);
  };
  const [early, late] = [await begin("monitor-first"), await begin("machine-first")];
  const looks = [await before(page, early), after(page, late)] as const;
  const [monitorFirst, machineFirst] = await Promise.all([play(early, looks[0]), play(late, looks[1])]);
  expect(monitorFirst).toEqual(machineFirst);
});
