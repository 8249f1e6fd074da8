// A worker that is frozen, not dead: what it said last must not stand there as if it were true.

import { expect, test } from "../support/fixtures";
import { Fleet } from "../support/fleet";
import { historyOf, recordHistory } from "../support/history";
import { expectLive, expectShown } from "../support/page";
import { expectEqualPictures } from "../support/picture";

const FROZEN = "one-worker-0";
const OTHER = "two-worker-0";
const CONNECTOR = `${FROZEN}:simulation`;

test("a frozen worker becomes offline and its connector unknown; its job runs elsewhere; thawed, all is well again", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await recordHistory(page);
  await page.goto(fleet.address);
  await expectLive(page);
  const frozen = await fleet.worker(FROZEN, "one", "simulation:1");
  // Longer than it is frozen, also on a busy machine: what ended meanwhile would count as a late result.
  const job = await fleet.simulate(26_000);
  await expectShown(page, "job", job.id, "in_progress");
  await expectShown(page, "connector", CONNECTOR, "active");
  await fleet.worker(OTHER, "two", "simulation:1");
  await expectShown(page, "worker", OTHER, "idle");

  frozen.signal("SIGSTOP");
  // The lease is over after 10 s: the job goes to whoever is there.
  await expectShown(page, "worker", OTHER, "busy", 15_000);
  expect(await fleet.job(job.id)).toMatchObject({ attempt: 2, losses: 1, worker_id: OTHER });
  // Silence is declared after 15 s.
  await expectShown(page, "worker", FROZEN, "offline", 15_000);
  await expectShown(page, "connector", CONNECTOR, "unknown");
  await expectShown(page, "machine", "one", "disconnected");
  await expectEqualPictures(page, fleet.address);

  frozen.signal("SIGCONT");
  await expectShown(page, "worker", FROZEN, "idle", 15_000);
  await expectShown(page, "connector", CONNECTOR, "idle", 15_000);
  await expectShown(page, "machine", "one", "ready");
  // Its attempt is over for good: what it was doing goes on elsewhere, and ends there.
  await expectShown(page, "job", job.id, "completed", 40_000);
  await expectShown(page, "worker", OTHER, "idle");
  expect(await fleet.job(job.id)).toMatchObject({ status: "completed", attempt: 2, worker_id: OTHER });
  expect(await historyOf(page, "worker", FROZEN)).not.toContain("gone");

  // And it works again.
  const [one, two] = [await fleet.simulate(1_000), await fleet.simulate(1_000)];
  for (const each of [one, two]) await expectShown(page, "job", each.id, "completed");
  const workers = await Promise.all([one, two].map(async ({ id }) => (await fleet.job(id)).worker_id));
  expect(workers.sort()).toEqual([FROZEN, OTHER]);
  await expectShown(page, "connector", CONNECTOR, "idle");
  await expectEqualPictures(page, fleet.address);
});

test("with nobody else there, a frozen worker's job waits, and is taken again after the thaw", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await page.goto(fleet.address);
  const frozen = await fleet.worker(FROZEN, "one", "simulation:1");
  const job = await fleet.simulate(4_000);
  await expectShown(page, "job", job.id, "in_progress");
  frozen.signal("SIGSTOP");
  await expectShown(page, "job", job.id, "pending", 15_000);
  await expectShown(page, "worker", FROZEN, "offline", 15_000);
  frozen.signal("SIGCONT");
  await expectShown(page, "job", job.id, "completed", 20_000);
  await expectShown(page, "worker", FROZEN, "idle");
  await expectShown(page, "connector", CONNECTOR, "idle");
  expect(await fleet.job(job.id)).toMatchObject({ status: "completed", losses: 1, failures: 0 });
  await expectEqualPictures(page, fleet.address);
});
