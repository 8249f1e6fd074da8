// The pages by themselves, over a made-up world: what they show, and what they do when the server
// is slow, silent, gone, or says no.

import { expect, test } from "../support/fixtures";
import { expectEqualPictures, shownStatuses, statuses, viewOf } from "../support/picture";

test("the monitor shows every record of the view, with its status", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
  await expectEqualPictures(page, address);
  await expect(async () => {
    const view = await viewOf(page);
    expect(await shownStatuses(page, "machine")).toEqual(statuses(view.machines));
    expect(await shownStatuses(page, "worker")).toEqual(statuses(view.workers));
    expect(await shownStatuses(page, "connector")).toEqual(statuses(view.connectors));
    expect(await shownStatuses(page, "job")).toMatchObject(statuses(view.jobs));
    expect(await page.getByTestId("alert").count()).toBe(Object.keys(view.alerts).length);
  }).toPass();
});

test("a broken connection shows at once, and the picture is whole again after it", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
  await fetch(`${address}/mock/cut`);
  await expect(page.getByTestId("not-live")).toContainText("Not live");
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
  await expectEqualPictures(page, address);
});

test("a server that falls silent is noticed after 15 s", async ({ page, mock }) => {
  const { address } = await mock();
  await page.clock.install();
  await page.goto(address);
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
  await fetch(`${address}/mock/silence`);
  await page.clock.runFor(17_000);
  const note = page.getByTestId("not-live");
  await expect(note).toContainText("nothing heard from the server for 15 s");
  // What is read aloud is said once; the seconds that count on stand beside it.
  const [whole, aloud] = [await note.innerText(), await note.getByRole("alert").innerText()];
  await page.clock.runFor(2_000);
  await expect(note).not.toHaveText(whole, { useInnerText: true });
  await expect(note.getByRole("alert")).toHaveText(aloud);
});

test("after the computer slept the picture is as old as it is, and not live", async ({ page, mock }) => {
  const server = await mock();
  await page.clock.install();
  await page.goto(server.address);
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
  await server.stop();
  await expect(page.getByTestId("not-live")).toContainText("ago");
  // Asleep: the clock on the wall goes on, the timers and `performance.now` do not.
  await page.clock.setSystemTime(Date.now() + 14 * 3_600_000);
  await page.clock.runFor(2_000);
  await expect(page.getByTestId("not-live")).toContainText(/14 h( 0\d min)? ago/);
});

test("the server's own reason for not being live is shown, and so is a resync", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
  await fetch(`${address}/mock/not_live`);
  await expect(page.getByTestId("not-live")).toContainText("the store does not answer");
  await fetch(`${address}/mock/live`);
  await fetch(`${address}/mock/resync`);
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "resyncing");
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
});

test("a token is asked for, kept for the tab, and sent as a header", async ({ page, mock }) => {
  const { address } = await mock("--token", "secret");
  await page.goto(address);
  await page.getByLabel("Access token").fill("secert");
  await page.getByRole("button", { name: "Use token" }).click();
  await expect(page.getByTestId("token-problem")).toContainText("answers only requests with a token");
  await page.getByLabel("Access token").fill("secret");
  await page.getByRole("button", { name: "Use token" }).click();
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
  await page.goto(`${address}/client`);
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
});

test("a worker is drained and resumed, after asking once more", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  const worker = page.locator('[data-testid="worker"][data-id="gpu-box-3-worker-0"]');
  await worker.getByTestId("drain").click();
  await worker.getByRole("button", { name: "Keep as is" }).click();
  await expect(worker).toHaveAttribute("data-status", "starting");
  await worker.getByTestId("drain").click();
  await worker.getByTestId("drain-yes").click();
  await expect(worker).toHaveAttribute("data-status", "draining");
  await worker.getByTestId("resume").click();
  await worker.getByTestId("resume-yes").click();
  await expect(worker).not.toHaveAttribute("data-status", "draining");
});

test("a job's details say why it waits, and cancel it", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await page.locator('[data-testid="job"][data-status="pending"]').last().getByRole("link").click();
  const explain = page.getByTestId("explain");
  await expect(explain).toContainText("workers");
  await expect(explain.locator('[data-rule="service"]'), "who is offline neither passes nor fails").toContainText("8 pass");
  await expect(explain.getByTestId("of")).toHaveText("Of the 8 that are there; 1 offline.");
  const models = explain.locator('[data-rule="models"]');
  await expect(models.locator(".asked"), "not all that is asked").toHaveText("missing: the model sd_xl_base_1.0.safetensors");
  await models.getByText("All that is asked").click();
  await expect(models).toContainText("ae.safetensors");
  await page.getByTestId("cancel").click();
  await page.getByTestId("cancel-yes").click();
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "cancelled");
  await expect(page.getByTestId("retry"), "the keyboard stays where it was").toBeFocused();
  await page.keyboard.press("Escape");
  await expect(page.getByTestId("job-panel")).toHaveCount(0);
});

test("the details of a job that is not in the view go on being asked for, whatever they said before", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  const id = await page.locator('[data-testid="job"][data-status="pending"]').last().getAttribute("data-id");
  let answer: "none" | "an old end" | "the truth" = "none";
  await page.route(`**/api/v1/jobs/${id}`, async (route) => {
    if (answer === "none") return route.abort("connectionrefused");
    if (answer === "the truth") return route.continue();
    const response = await route.fetch();
    return route.fulfill({ response, json: { ...((await response.json()) as object), status: "completed" } });
  });
  await page.goto(`${address}/#/job/${id}`);
  await expect(page.getByTestId("problem")).toHaveAttribute("data-code", "unreachable");
  answer = "an old end";
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "completed");
  answer = "the truth";
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "pending");
});

test("on a phone, too, a job's details say that they are from before", async ({ page, mock }) => {
  const server = await mock();
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(server.address);
  await page.locator('#running [data-testid="job"]').first().getByRole("link").click();
  const panel = page.getByTestId("job-panel");
  await expect(panel.getByTestId("job-state")).toHaveAttribute("data-status", "in_progress");
  const pulses = () => panel.evaluate((dialog) => dialog.getAnimations({ subtree: true }).length);
  expect(await pulses()).toBeGreaterThan(0);
  await server.stop();
  await expect(panel.getByTestId("not-live")).toContainText("Not live");
  await expect(panel.getByTestId("not-live")).toBeInViewport();
  await expect.poll(pulses).toBe(0);
});

test("a job's details say when they cannot be had any more", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await page.locator('[data-testid="job"][data-status="pending"]').last().getByRole("link").click();
  const panel = page.getByTestId("job-panel");
  await expect(panel.getByTestId("job-state")).toHaveAttribute("data-status", "pending");
  await expect(panel.getByTestId("problem")).toHaveCount(0);
  await page.route("**/api/v1/jobs/*", (route) => route.fulfill({ status: 410, json: { title: "It is gone", code: "job_removed", status: 410 } }));
  await expect(panel.getByTestId("problem")).toHaveAttribute("data-code", "job_removed");
  await expect(panel).toContainText("as it was at");
  await page.unroute("**/api/v1/jobs/*");
  await expect(panel.getByTestId("problem")).toHaveCount(0);
});

test("a link to a job asks for the token first, and opens the job then", async ({ page, mock }) => {
  const { address } = await mock("--token", "secret");
  const headers = { Authorization: "Bearer secret" };
  const view = (await (await fetch(`${address}/api/v1/snapshot`, { headers })).json()) as { jobs: { id: string }[] };
  await page.goto(`${address}/#/job/${view.jobs[0]!.id}`);
  await page.getByLabel("Access token").fill("secret", { timeout: 5_000 });
  await page.getByRole("button", { name: "Use token" }).click({ timeout: 5_000 });
  await expect(page.getByTestId("job-panel")).toHaveAttribute("data-id", view.jobs[0]!.id);
  await expect(page.getByTestId("job-state")).toBeVisible();
});

test("jobs that are no longer in the view are found: by how they ended, and by their id", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  const ended = page.locator("#ended");
  const failed = ended.locator('[data-testid="job"][data-status="failed"]');
  await expect(failed.first()).toBeVisible();
  const before = await failed.evaluateAll((rows) => rows.map((row) => row.getAttribute("data-id")));
  expect(before.length).toBeGreaterThan(0);
  await fetch(`${address}/mock/crowd?n=300`);
  await expect(failed).toHaveCount(0);
  await page.locator('[data-testid="count"][data-name="failed"]').click();
  await expect(ended.getByRole("button", { name: "failed" })).toHaveAttribute("aria-pressed", "true");
  await expect(failed).toHaveCount(before.length);
  expect(await failed.evaluateAll((rows) => rows.map((row) => row.getAttribute("data-id")))).toEqual(before);

  await ended.getByRole("button", { name: "completed" }).click();
  const completed = ended.locator('[data-testid="job"][data-status="completed"]');
  await page.getByTestId("older").click();
  await expect.poll(() => completed.count()).toBeGreaterThan(300);

  await page.getByTestId("filter").fill(` ${before[0]!.toUpperCase()}`);
  await page.getByTestId("open-job").click();
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "failed");
});

test("a refusal names the field and the cure; a good job is followed to its picture", async ({ page, mock }) => {
  const { address } = await mock("--pace", "10");
  await page.goto(`${address}/client`);
  await page.getByLabel("Priority").fill("150");
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("problem")).toHaveAttribute("data-code", "out_of_range");
  await expect(page.getByLabel("Priority")).toHaveAttribute("aria-invalid", "true");
  await page.getByTestId("payload").fill("{");
  await page.getByTestId("submit").click();
  await expect(page.getByTestId("problem")).toHaveAttribute("data-code", "invalid_json");

  await page.getByLabel("Begin with").selectOption("Text to image");
  await page.getByLabel("Priority").fill("100");
  await page.getByTestId("submit").click();
  const mine = page.getByTestId("my-job");
  await expect(mine).toHaveCount(1);
  await expect(mine).toHaveAttribute("data-status", "completed");
  await expect(mine.getByTestId("artifact-image")).toBeVisible();
  await page.reload();
  await expect(page.getByTestId("my-job")).toHaveAttribute("data-status", "completed");
});

test("a running job can be cancelled once, and the keyboard stays in its details", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  const running = page.locator('#running [data-testid="job"]');
  await running.filter({ hasText: "loading a model" }).getByRole("link").click();
  await page.getByTestId("cancel").press("Enter");
  await page.getByTestId("cancel-yes").press("Enter");
  await expect(page.getByTestId("cancel-yes")).toHaveCount(0);
  await expect(page.getByRole("dialog").getByRole("heading", { name: /^Job/ })).toBeFocused();
});

for (const width of [320, 390, 1280]) {
  test(`nothing is wider than a page of ${width} px`, async ({ page, mock }) => {
    const { address } = await mock();
    await page.setViewportSize({ width, height: 844 });
    for (const path of ["/", "/client"]) {
      await page.goto(`${address}${path}`);
      await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(overflow).toBeLessThanOrEqual(0);
    }
  });
}

test("nothing is seen between the head and the filter below it, on a phone too", async ({ page, mock }) => {
  const { address } = await mock("--scene", "fleet");
  for (const width of [390, 1280]) {
    await page.setViewportSize({ width, height: 844 });
    await page.goto(address);
    await expect(page.getByTestId("machine").first()).toBeVisible();
    const gap = () => page.evaluate(() => {
      scrollTo(0, 1_000);
      const [head, filter] = ["header", "search"].map((part) => document.querySelector(part)?.getBoundingClientRect());
      return (filter?.top ?? NaN) - (head?.bottom ?? NaN);
    });
    await expect.poll(gap).toBeLessThanOrEqual(0);
  }
});

test("in no frame do the counts differ from the lists below them", async ({ page, mock }) => {
  const { address } = await mock("--pace", "4");
  await page.goto(address);
  await expect(page.getByTestId("live")).toHaveAttribute("data-state", "live");
  const differing = await page.evaluate(async () => {
    const counted = (name: string) => document.querySelector<HTMLElement>(`[data-testid="count"][data-name="${name}"]`)?.dataset["value"];
    const listed = (selector: string) => String(document.querySelectorAll(selector).length);
    const found = new Set<string>();
    let changes = 0;
    for (let before = ""; changes < 4;) {
      await new Promise(requestAnimationFrame);
      for (const name of ["running", "pending"]) {
        const [n, of] = [counted(name), listed(`#${name} [data-testid="job"]`)];
        if (n !== of) found.add(`${n} ${name}, listed ${of}`);
      }
      const now = listed('#running [data-testid="job"]') + listed('#pending [data-testid="job"]');
      if (now !== before) changes += 1;
      before = now;
    }
    return [...found];
  });
  expect(differing).toEqual([]);
});
