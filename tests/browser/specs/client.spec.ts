// The client page by itself, over a made-up world: what it sends, and what it lists.

import type { Page } from "@playwright/test";
import { expect, test } from "../support/fixtures";
import { expectLive } from "../support/page";

async function openForm(page: Page, address: string): Promise<void> {
  await page.goto(`${address}/client`);
  await expectLive(page);
  await page.getByLabel("Simulation").check();
}

const myJobs = (page: Page) => page.getByTestId("my-job");

test("a submission whose answer was lost is sent again and makes no second job", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await openForm(page, address);
  let losing = true;
  const made: string[] = [];
  await page.route("**/api/v1/jobs", async (route) => {
    const answer = await route.fetch();
    made.push(((await answer.json()) as { id: string }).id);
    return losing ? route.abort("connectionreset") : route.fulfill({ response: answer });
  });
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("problem")).toContainText("press Submit again");
  losing = false;
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("problem")).toHaveCount(0);
  await expect(myJobs(page)).toHaveCount(1);
  // Now it is known to be taken: whoever presses once more wants another.
  await page.getByTestId("submit").click();
  await expect(myJobs(page)).toHaveCount(2);
  expect(made[1]).toBe(made[0]);
  expect(made[2]).not.toBe(made[0]);
});
