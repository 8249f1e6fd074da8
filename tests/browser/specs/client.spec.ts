// The client page by itself, over a made-up world: what it sends, and what it lists.

import type { Page } from "@playwright/test";
import { expect, test } from "../support/fixtures";
import { expectLive } from "../support/page";
import { viewOf } from "../support/picture";

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

test("a job whose record left the view stays as it was seen last", async ({ page, mock }) => {
  const { address } = await mock("--scene", "quiet", "--pace", "10");
  await openForm(page, address);
  await page.route("**/api/v1/jobs/*", (route) => route.abort());
  await page.getByTestId("submit").click();
  await expect(myJobs(page)).toHaveAttribute("data-status", "completed");
  const id = await myJobs(page).getAttribute("data-id");
  await fetch(`${address}/mock/crowd?n=250`);
  await expect.poll(async () => Object.keys((await viewOf(page)).jobs)).not.toContain(id);
  await expect(myJobs(page)).toHaveAttribute("data-status", "completed");
});

test("what happened to a job out of sight is asked for at once, many side by side", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await openForm(page, address);
  await page.getByLabel("How many").fill("150");
  await page.getByTestId("submit").click();
  await expect(myJobs(page)).toHaveCount(150);
  // They end in one step, and 200 others with them: no view ever has them.
  await fetch(`${address}/mock/end_all`);
  await expect(page.locator('[data-testid="my-job"][data-status="completed"]')).toHaveCount(150);
});

test("all tabs of a browser have one list, and it ends at the newest 200", async ({ page, context, mock }) => {
  const { address } = await mock("--scene", "empty");
  await openForm(page, address);
  const other = await context.newPage();
  await openForm(other, address);
  await other.getByTestId("submit").click();
  await expect(myJobs(page)).toHaveCount(1);
  await page.getByTestId("submit").click();
  for (const tab of [page, other]) await expect(myJobs(tab)).toHaveCount(2);
  await page.reload();
  await expect(myJobs(page)).toHaveCount(2);
  await expect(page.getByText("Only the newest 200")).toHaveCount(0);
  await page.getByLabel("Simulation").check();
  await page.getByLabel("How many").fill("250");
  await page.getByTestId("submit").click();
  await expect(page.getByText("Only the newest 200")).toBeVisible();
  await expect(myJobs(page)).toHaveCount(200);
});

test("a browser that stores nothing submits all the same, and says that it keeps no list", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await page.addInitScript(() => {
    Storage.prototype.setItem = () => { throw new DOMException("no room", "QuotaExceededError"); };
  });
  await openForm(page, address);
  await page.getByTestId("submit").click();
  await expect(myJobs(page)).toHaveCount(1);
  await expect(page.getByText("stores nothing")).toBeVisible();
  await expect(page.getByTestId("problem")).toHaveCount(0);
});

test("the fields of a simulation are what stands in its payload, and keep what else is in it", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await openForm(page, address);
  const payload = page.getByTestId("payload");
  const [duration, steps, ends] = [page.getByLabel("Duration, ms"), page.getByLabel("Steps"), page.getByLabel("Ends how")];
  await payload.fill('{"duration_ms": 100, "fail": {"kind": "timeout", "message": "mine"}}');
  await expect(duration).toHaveValue("100");
  await expect(steps).toHaveValue("");
  await expect(ends).toHaveValue("timeout");
  await steps.fill("7");
  await ends.selectOption("bad job");
  expect(JSON.parse(await payload.inputValue())).toEqual({ duration_ms: 100, steps: 7, fail: { kind: "bad_job", message: "mine" } });
  await duration.fill("abc");
  expect(JSON.parse(await payload.inputValue())).toMatchObject({ duration_ms: "abc" });
  await payload.fill("{");
  for (const field of [duration, steps, ends]) await expect(field).toBeDisabled();
  await expect(payload).toHaveValue("{");
});

test("a priority that is no number is not sent", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await openForm(page, address);
  await page.getByLabel("Priority").fill("8O");
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("problem")).toContainText("no number");
  await expect(page.getByLabel("Priority")).toHaveAttribute("aria-invalid", "true");
  await expect(myJobs(page)).toHaveCount(0);
});

test("a token that may not submit is changed for one that may, and the form stays as it was filled in", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty", "--token", "secret");
  await page.goto(`${address}/client`);
  await expect(page.getByTestId("token-form")).toContainText("--role submit");
  await page.getByLabel("Access token").fill("secret-view");
  await page.getByRole("button", { name: "Use token" }).click();
  await expectLive(page);
  await page.getByLabel("Simulation").check();
  await page.getByLabel("Priority").fill("77");
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("problem")).toHaveAttribute("data-code", "forbidden");
  await page.getByTestId("problem").getByRole("button", { name: "Use another token" }).click();
  await expect(page.getByLabel("Access token")).toBeFocused();
  await page.getByRole("button", { name: "Keep the one in use" }).click();
  await expect(page.getByTestId("token-form")).toHaveCount(0);
  await page.getByTestId("token-change").click();
  await page.getByLabel("Access token").fill("secret");
  await page.getByRole("button", { name: "Use token" }).click();
  await expect(page.getByTestId("token-form")).toHaveCount(0);
  await expectLive(page);
  await expect(page.getByLabel("Priority")).toHaveValue("77");
  await page.getByTestId("submit").click();
  await expect(myJobs(page)).toHaveCount(1);

  // One that is not known is noticed at once, and not when it is needed: the one in use stays.
  await page.getByLabel("Priority").fill("66");
  await page.getByTestId("token-change").click();
  await page.getByLabel("Access token").fill("wrong");
  await page.getByRole("button", { name: "Use token" }).click();
  await expect(page.getByTestId("token-problem")).toContainText("The one in use stays.");
  await expectLive(page);
  await expect(page.getByLabel("Access token")).toHaveValue("wrong");
  await page.reload();
  await expectLive(page);
  await page.getByTestId("submit").click();
  await expect(myJobs(page)).toHaveCount(2);
});

test("requirements stay in sight when a job was submitted: they hold for the next one too", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await openForm(page, address);
  await page.getByTestId("payload").fill("{ broken");
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("problem")).toBeVisible();
  await page.getByTestId("payload").fill("{}");
  await page.getByText("Requirements", { exact: true }).click();
  await page.getByLabel("Requirements, JSON").fill('{"hardware": {"gpu_count": 2}}');
  await page.getByTestId("submit").click();
  await expect(myJobs(page)).toHaveCount(1);
  await expect(page.getByLabel("Requirements, JSON")).toBeVisible();
  await page.getByLabel("Requirements, JSON").fill("{ broken");
  await page.getByText("Requirements", { exact: true }).click();
  await expect(page.getByLabel("Requirements, JSON")).toBeHidden();
  await page.getByTestId("submit").click();
  await expect(page.getByLabel("Requirements, JSON")).toBeVisible();
});
