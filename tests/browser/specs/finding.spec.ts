// What people hold in their hands, an id as the pages shorten it, a place in the queue, a time, leads
// them on.

import { expect, test } from "../support/fixtures";
import { expectLive, shown } from "../support/page";

test("an id as the pages show it opens its job where the page knows it, else it is said that the whole one is needed", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  for (const list of ["running", "pending", "ended"]) {
    const link = page.locator(`#${list}`).getByTestId("job").first().getByRole("link");
    // In one step: another job may come first at any time.
    const [short, whole] = await link.evaluate((a) => [a.textContent ?? "", a.getAttribute("title")] as const);
    expect(short).toHaveLength(8);
    await page.getByTestId("filter").fill(` ${short.toUpperCase()}`);
    await page.getByTestId("open-job").click();
    await expect(page.getByTestId("job-panel")).toHaveAttribute("data-id", whole ?? "");
    await page.keyboard.press("Escape");
    await expect(page.getByTestId("job-panel")).toHaveCount(0);
    await page.getByTestId("filter").fill("");
  }
  await page.getByTestId("filter").fill("0badcafe");
  await expect(page.getByTestId("open-job")).toHaveCount(0);
  await expect(page.getByTestId("found")).toContainText("the whole id opens");
});

test("a link with a shortened id opens its job where the page knows it, and its address becomes the whole one", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  const whole = (await page.locator("#ended").getByTestId("job").first().getAttribute("data-id")) ?? "";
  for (const short of [whole.toUpperCase(), whole.slice(-8), whole.slice(0, 13).toUpperCase()]) {
    await page.goto("about:blank");
    await page.goto(`${address}/#/job/${short}`);
    await expect(page.getByTestId("job-state")).toBeVisible();
    await expect(page.getByTestId("job-panel")).toHaveAttribute("data-id", whole);
  }
  expect(page.url()).toContain(whole);
  for (const none of ["0badcafe", whole.slice(-4), "nonsense"]) {
    await page.goto("about:blank");
    await page.goto(`${address}/#/job/${none}`);
    await expect(page.getByTestId("short-id")).toContainText(`begins or ends with ${none}`);
  }
});

test("a filtered waiting job keeps its place in the order of claims", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty");
  await page.goto(`${address}/client`);
  await page.getByLabel("Simulation").check();
  await page.getByLabel("How many").fill("5");
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("my-job")).toHaveCount(5);
  await page.goto(address);
  const fourth = page.locator("#pending").getByTestId("job").nth(3);
  await expect(fourth).toContainText(/^4\s/);
  const id = (await fourth.getAttribute("data-id")) ?? "";
  await page.getByTestId("filter").fill(id);
  await expect(page.locator("#pending").getByTestId("job")).toHaveCount(1);
  await expect(shown(page, "job", id)).toContainText(/^4\s/);
});

test("a held job stands behind those that wait, without a place in the order of claims", async ({ page, mock }) => {
  const { address } = await mock("--scene", "busy");
  await page.goto(address);
  const held = page.locator("#pending").getByTestId("job").filter({ hasText: "held: backoff" });
  await expect(held).toHaveCount(1);
  await expect(held.locator(".place")).toHaveText("");
  await expect(page.locator("#pending").getByTestId("job").last()).toContainText("held: backoff");
  await expect(page.locator("#pending").getByTestId("job").first().locator(".place")).toHaveText("1");
});

test.describe("far from Greenwich", () => {
  test.use({ timezoneId: "Asia/Tokyo", locale: "en-GB" });

  test("the times in what the server says are those of whoever reads it", async ({ page, mock }) => {
    const { address } = await mock("--scene", "odd");
    await page.goto(address);
    await expect(shown(page, "worker", "long-gone-worker-0")).toContainText("nothing heard of it since 27 Nov, 07:43:31");
    await expect(page.getByTestId("alert").filter({ hasText: "long-gone" })).toContainText("takes none until 27 Nov, 00:10:00)");
  });
});

test("Enter in the filter opens the job whose id stands there", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  const id = (await page.locator("#running").getByTestId("job").first().getAttribute("data-id")) ?? "";
  await page.keyboard.press("/");
  await page.keyboard.type(id);
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("job-panel")).toHaveAttribute("data-id", id);
  await page.keyboard.press("Escape");
  await expect(page.getByTestId("filter")).toBeFocused();
  await page.getByTestId("filter").fill("gpu-box");
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("job-panel")).toHaveCount(0);
});

test("an alert leads to the worker that it is about", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  await page.getByTestId("alert").getByRole("link", { name: "gpu-box-2-worker-1" }).click();
  await expect(page.getByTestId("worker")).toHaveCount(1);
  await expect(page.getByTestId("worker")).toHaveAttribute("data-id", "gpu-box-2-worker-1");
  await expect(page.getByTestId("filter")).toHaveValue("gpu-box-2-worker-1");
});

test("a job's details lead to its worker, and back to them", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  const job = page.locator("#running").getByTestId("job").first();
  const id = (await job.getAttribute("data-id")) ?? "";
  await job.getByRole("link").click();
  const link = page.getByTestId("job-panel").getByRole("link", { name: /-worker-/ });
  const worker = (await link.textContent()) ?? "";
  await link.click();
  await expect(page.getByTestId("job-panel")).toHaveCount(0);
  await expect(page.getByTestId("worker")).toHaveCount(1);
  await expect(page.getByTestId("worker")).toHaveAttribute("data-id", worker);
  await expect(page.locator("#machines-title")).toBeFocused();
  await page.goBack();
  await expect(page.getByTestId("job-panel")).toHaveAttribute("data-id", id);
});

test("a job's details are printed alone, and not cut at the end of a page", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  await page.locator("#ended").getByTestId("job").first().getByRole("link").click();
  await expect(page.getByTestId("job-state")).toBeVisible();
  await page.setViewportSize({ width: 800, height: 300 });
  await page.emulateMedia({ media: "print" });
  await expect(page.getByRole("main")).toBeHidden();
  await expect(page.getByRole("heading", { name: "Attempts" })).toBeVisible();
  const panel = page.getByTestId("job-panel");
  expect(await panel.evaluate((dialog) => dialog.scrollHeight - dialog.clientHeight)).toBe(0);
  expect(await panel.evaluate((dialog) => dialog.clientHeight)).toBeGreaterThan(300);
});
