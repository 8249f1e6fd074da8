// The monitor with a large fleet, made up: it stays quick, what is wrong stands first, and one
// finds what one looks for.

import { expect, test } from "../support/fixtures";
import { changesASecond } from "../support/load";
import { expectLive, shown } from "../support/page";

test("200 workers at work change little of the page at a time, and no status waits for being in sight", async ({ page, mock }) => {
  const { address } = await mock("--scene", "fleet");
  await page.goto(address);
  await expectLive(page);
  await expect(page.getByTestId("worker")).toHaveCount(200);
  expect(await changesASecond(page, 6)).toBeLessThan(1_500);
  // In one moment, as this world never rests: what stands in the page against what it knows.
  const wrong = () => page.evaluate(() => {
    type Records = Record<string, { status: string }>;
    const { view } = (window as unknown as { __pointsman: { view: () => Record<string, Records> } }).__pointsman;
    const { machines, workers, connectors, jobs } = view();
    return Object.entries({ machine: machines, worker: workers, connector: connectors, job: jobs }).flatMap(([kind, records]) =>
      Object.entries(records ?? {}).filter(([id, { status }]) =>
        document.querySelector<HTMLElement>(`[data-testid="${kind}"][data-id="${id}"]`)?.dataset["status"] !== status));
  });
  await expect.poll(wrong).toEqual([]);
});

test("a fleet that has nothing to do costs next to nothing", async ({ page, mock }) => {
  const { address } = await mock("--scene", "quiet");
  await page.goto(address);
  await expectLive(page);
  await expect(page.getByTestId("worker")).toHaveCount(200);
  expect(await changesASecond(page, 6)).toBeLessThan(200);
});

test("what was out of sight is up to date when it comes into sight", async ({ page, mock }) => {
  const { address } = await mock("--scene", "fleet", "--pace", "0.1");
  await page.goto(address);
  const newest = await page.locator("#running [data-testid='job']").last().getAttribute("data-id");
  const job = shown(page, "job", newest ?? "");
  const age = async () => {
    await job.evaluate((row) => row.scrollIntoView());
    return Number(/(\d+) s/.exec((await job.locator(".elapsed").textContent()) ?? "")?.[1]);
  };
  const early = await age();
  await expect.poll(age).toBeGreaterThan(early);
});

test("200 alerts of one rule are one line, which opens within bounds", async ({ page, mock }) => {
  const { address } = await mock("--scene", "outage");
  await page.goto(address);
  const alerts = page.getByTestId("alerts");
  await expect(alerts).toContainText("200 workers broke several different jobs in a row");
  await expect(page.getByTestId("alert")).toHaveCount(0);
  const top = async () => (await page.locator("#machines").boundingBox())?.y ?? Infinity;
  expect(await top()).toBeLessThan(450);
  await alerts.locator("summary").click();
  await expect(page.getByTestId("alert")).toHaveCount(200);
  expect(await top()).toBeLessThan(800);
});

test("what needs attention stands first, is counted, and can be shown alone", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  const ids = () => page.getByTestId("machine").evaluateAll((cards) => cards.map((card) => card.dataset["id"]));
  await expect(page.getByTestId("attention")).toHaveText("2 machines and 3 workers need attention");
  expect(await ids()).toEqual(["gpu-box-2", "spot-eu-4", "gpu-box-3", "gpu-box-1", "spot-eu-5", "spot-us-6"]);
  await page.getByTestId("attention").click();
  await expect.poll(ids).toEqual(["gpu-box-2", "spot-eu-4"]);
  await expect(page.getByTestId("filter")).toHaveValue("attention");
  await page.getByTestId("attention").click();
  await expect(page.getByTestId("machine")).toHaveCount(6);
});

test("the filter finds workers and jobs, and stays in the address", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  await page.keyboard.press("/");
  await expect(page.getByTestId("filter")).toBeFocused();
  await page.keyboard.type("box-2 Refused");
  await expect(page.getByTestId("worker")).toHaveCount(1);
  await expect(shown(page, "worker", "gpu-box-2-worker-1")).toBeVisible();
  await expect(page.getByTestId("found")).toHaveText(/^1 machine, 1 worker, \d+ jobs?$/);
  await page.getByTestId("filter").fill("out_of_memory");
  const job = page.getByTestId("job").first();
  await expect(job).toHaveAttribute("data-status", "failed");
  await expect(page).toHaveURL(/filter=out_of_memory$/);

  await job.getByRole("link").click();
  await expect(page).toHaveURL(/#\/job\/[\w-]+\?filter=out_of_memory$/);
  await page.reload();
  await expect(page.getByTestId("job-panel")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page).toHaveURL(/\/#\/\?filter=out_of_memory$/);
  await expect(page.getByTestId("machine")).toHaveCount(0);

  // Labels stand in no record: they are asked for, and shown where they are why.
  await page.getByTestId("filter").fill("site.region = eu");
  await expect(shown(page, "worker", "gpu-box-1-worker-0")).toContainText("site.region = eu");
  await page.getByTestId("filter").press("Escape");
  await expect(page.getByTestId("machine")).toHaveCount(6);
  await expect(page).toHaveURL(`${address}/`);
});

test("a suspect worker says until when, and is resumed", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  const worker = shown(page, "worker", "gpu-box-2-worker-1");
  await expect(worker).toContainText(/suspect: broke 3 different jobs in a row; takes none until \d\d:\d\d/);
  await expect(worker.getByTestId("drain")).toBeVisible();
  await worker.getByTestId("resume").click();
  await worker.getByTestId("resume-yes").click();
  await expect(worker).not.toContainText("suspect");
  await expect(worker.getByTestId("resume")).toHaveCount(0);
});

test("the keyboard passes the long lists, and comes back after a question", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  await page.keyboard.press("Tab");
  const skip = page.getByRole("navigation", { name: "Skip to" });
  await expect(skip.getByRole("link", { name: "Filter" })).toBeFocused();
  await expect(skip).toBeInViewport();
  await skip.getByRole("link", { name: "Ended" }).press("Enter");
  await expect(page.getByRole("heading", { name: "Ended" })).toBeFocused();
  await expect(page.getByRole("heading", { name: "Ended" })).toBeInViewport();
  await expect(skip).not.toBeInViewport();

  const worker = shown(page, "worker", "gpu-box-1-worker-0");
  await worker.getByTestId("drain").press("Enter");
  await expect(worker.getByTestId("drain-yes")).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(worker.getByTestId("drain")).toBeFocused();
  await page.keyboard.press("Enter");
  await worker.getByRole("button", { name: "Keep as is" }).press("Enter");
  await expect(worker.getByTestId("drain")).toBeFocused();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await expect(worker.getByTestId("resume")).toBeFocused();

  // In a job's details Escape closes the question first.
  await page.locator('[data-testid="job"][data-status="pending"]').last().getByRole("link").click();
  await page.getByTestId("cancel").click();
  await page.keyboard.press("Escape");
  await expect(page.getByTestId("cancel")).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(page.getByTestId("job-panel")).toHaveCount(0);
});

test("of thousands of machines the first are drawn, those in trouble among them, and the others at a wish", async ({ page, mock }) => {
  const { address } = await mock("--scene", "huge");
  await page.goto(address);
  await expectLive(page);
  await expect(page.getByTestId("machine")).toHaveCount(250);
  await expect(page.getByTestId("machine").first()).toHaveAttribute("data-status", "degraded");
  await expect(page.locator("#running [data-testid='job']")).toHaveCount(250);
  await page.locator("#machines").getByTestId("more").click();
  await expect(page.getByTestId("machine")).toHaveCount(500);
  await expect(page.locator("#machines h2")).toContainText("5,000");
});

test("of a machine's many silent workers one is drawn for all, and the others at a wish", async ({ page, mock }) => {
  const { address } = await mock("--scene", "silent");
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(address);
  await expectLive(page);
  await expect(page.getByTestId("worker")).toHaveCount(1);
  await page.locator("#machines").hover();
  await expect(page.getByTestId("worker"), "nor do more come under the hand").toHaveCount(1);
  await page.getByText("The same is so of 199 more workers").click();
  await expect(page.getByTestId("worker")).toHaveCount(21);
  await page.getByTestId("machine").getByTestId("more").click();
  await expect(page.getByTestId("worker")).toHaveCount(200);
});

test("where the jobs stand below the machines, few machines are drawn above them", async ({ page, mock }) => {
  const { address } = await mock("--scene", "fleet");
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(address);
  await expectLive(page);
  await expect(page.getByTestId("machine")).toHaveCount(20);
  const more = page.locator("#machines").getByTestId("more");
  // As a hand does that comes to it: the list keeps still under it.
  await more.hover();
  await more.click();
  await expect(page.getByTestId("machine")).toHaveCount(50);
});
