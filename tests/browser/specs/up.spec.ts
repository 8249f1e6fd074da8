// `up`: one process, and the page that submits to it.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, ROOT, test } from "../support/fixtures";
import { submit } from "../support/fleet";
import { expectLive, expectShown, shown } from "../support/page";
import { expectEqualPictures } from "../support/picture";

test("the client page submits the first picture to `up`, and shows it", async ({ page, pointsman, dataDir }) => {
  const up = await pointsman("up", "--listen", "127.0.0.1:0", "--data", join(dataDir, "data"), "--machine", "box");
  const monitor = await page.context().newPage();
  await monitor.goto(up.address);
  await expectShown(monitor, "machine", "box", "ready");
  await expectShown(monitor, "connector", "box-worker-0:comfyui", "idle");
  await monitor.getByRole("link", { name: /client/i }).first().click();
  await expect(monitor).toHaveURL(/\/client$/);
  await monitor.goBack();

  await page.goto(`${up.address}/client`);
  await expectLive(page);
  await page.getByTestId("payload").fill(await readFile(join(ROOT, "examples/first-picture.json"), "utf8"));
  await page.getByTestId("submit").click();
  const mine = page.getByTestId("my-job");
  await expect(mine).toHaveAttribute("data-status", "completed");
  const picture = mine.getByTestId("artifact-image");
  await expect(picture).toBeVisible();
  expect(await picture.evaluate((image: HTMLImageElement) => [image.naturalWidth, image.naturalHeight])).toEqual([768, 512]);

  const id = (await mine.getAttribute("data-id")) ?? "";
  await expectShown(monitor, "job", id, "completed");
  await expectEqualPictures(monitor, up.address);

  // The same once more comes from the cache, and says so.
  await page.getByTestId("submit").click();
  await expect(mine).toHaveCount(2);
  await expect(mine.first()).toHaveAttribute("data-status", "completed");
  await expect(mine.first()).toContainText("cached");
  const again = (await mine.first().getAttribute("data-id")) ?? "";
  await expect(shown(monitor, "job", again)).toContainText("cached");
  await expectEqualPictures(monitor, up.address);
  await expectEqualPictures(page, up.address);
});

test("`up` is killed and starts again: what it had done is still there", async ({ page, pointsman, dataDir }) => {
  const args = ["--data", join(dataDir, "data"), "--machine", "box", "--workers", "2"];
  const first = await pointsman("up", "--listen", "127.0.0.1:0", ...args);
  await page.goto(first.address);
  await expectShown(page, "connector", "box-worker-1:simulation", "idle");
  const done = await submit(first.address, "simulation", { duration_ms: 100 });
  await expectShown(page, "job", done.id, "completed");
  const long = await submit(first.address, "simulation", { duration_ms: 4_000, steps: 40 });
  await expectShown(page, "job", long.id, "in_progress");

  await first.kill();
  await expect(page.getByTestId("not-live")).toContainText("Not live");
  await pointsman("up", "--listen", new URL(first.address).host, ...args);
  await expectLive(page, 20_000);
  await expectShown(page, "job", done.id, "completed");
  await expectShown(page, "job", long.id, "completed", 30_000);
  for (const n of [0, 1]) {
    await expectShown(page, "worker", `box-worker-${n}`, "idle");
    await expectShown(page, "connector", `box-worker-${n}:simulation`, "idle");
    await expectShown(page, "connector", `box-worker-${n}:comfyui`, "idle");
  }
  await expectEqualPictures(page, first.address);
});
