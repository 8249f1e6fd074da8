// What operators order at the monitor, against a real server.

import { expect, test } from "../support/fixtures";
import { Fleet } from "../support/fleet";
import { expectShown, shown } from "../support/page";
import { expectEqualPictures } from "../support/picture";

test("a machine is drained and resumed with all its workers, and removed when it is gone", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await page.goto(fleet.address);
  const workers = [await fleet.worker("box-worker-0", "box", "simulation:1"), await fleet.worker("box-worker-1", "box", "simulation:1")];
  await expectShown(page, "worker", "box-worker-1", "idle");
  const machine = shown(page, "machine", "box");
  await expect(machine.getByTestId("remove-machine")).toHaveCount(0);
  await machine.getByTestId("drain-machine").click();
  await machine.getByTestId("drain-machine-yes").click();
  for (const id of ["box-worker-0", "box-worker-1"]) await expectShown(page, "worker", id, "draining");
  await expect(machine.getByTestId("drained")).toBeVisible();
  workers.push(await fleet.worker("box-worker-2", "box", "simulation:1"));
  await expectShown(page, "worker", "box-worker-2", "draining");
  await machine.getByTestId("resume-machine").click();
  await machine.getByTestId("resume-machine-yes").click();
  await expect(machine.getByTestId("drained")).toHaveCount(0);
  for (const id of ["box-worker-0", "box-worker-1", "box-worker-2"]) await expectShown(page, "worker", id, "idle");

  await workers[2]?.stop();
  await workers[0]?.stop();
  await expectShown(page, "worker", "box-worker-0", "offline");
  const gone = shown(page, "worker", "box-worker-0");
  await gone.getByTestId("remove").click();
  await gone.getByTestId("remove-yes").click();
  await expect(gone).toHaveCount(0);
  await workers[1]?.stop();
  await expectShown(page, "machine", "box", "offline");
  await machine.getByTestId("remove-machine").click();
  await expect(machine.getByRole("group").first()).toContainText("Remove box and its 2 workers from the monitor?");
  await machine.getByTestId("remove-machine-yes").click();
  await expect(machine).toHaveCount(0);
  await expect(page.getByRole("heading", { name: "Machines" })).toBeFocused();
  const view = await expectEqualPictures(page, fleet.address);
  expect([view.machines, view.workers, view.connectors]).toEqual([{}, {}, {}]);
});

test("a worker that broke three jobs is suspect until it is resumed", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  await page.goto(fleet.address);
  await fleet.worker("box-worker-0", "box", "simulation:1");
  await expectShown(page, "worker", "box-worker-0", "idle");
  const broken = { duration_ms: 50, fail: { kind: "service_fault", message: "out of memory" } };
  for (let n = 0; n < 3; n += 1) await fleet.submit("simulation", broken, { max_failures: 1 });
  const worker = shown(page, "worker", "box-worker-0");
  await expect(worker).toContainText(/suspect: broke 3 different jobs in a row; takes none until \d\d:\d\d/);
  await expect(page.getByTestId("attention")).toHaveText("1 worker needs attention");
  const waits = await fleet.simulate(50);
  await expectShown(page, "job", waits.id, "pending");
  await worker.getByTestId("resume").click();
  await worker.getByTestId("resume-yes").click();
  await expectShown(page, "job", waits.id, "completed");
  await expect(worker).not.toContainText("suspect");
  await expect(page.getByTestId("attention")).toHaveCount(0);
  await expectEqualPictures(page, fleet.address);
});
