// What is amiss is said: by whom, why, once, and never what the page cannot know.

import { detailsOf } from "../support/details";
import { expect, test } from "../support/fixtures";
import { Fleet } from "../support/fleet";
import { expectLive, expectShown, shown } from "../support/page";

test("a result that is not whole says so, in the list and in the details; where the work was last is no note", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  await expectLive(page);
  await expect(page.locator("#ended").getByTestId("remark")).toHaveText(/^Its worker says: ComfyUI dropped the outputs of the nodes 7: /);
  await expect((await detailsOf(page, address, "partial")).getByTestId("remark")).toContainText("dropped the outputs");
  await page.keyboard.press("Escape");
  await expect((await detailsOf(page, address, "whole")).getByTestId("remark")).toHaveCount(0);
});

test("what a worker says of a result stands on the client page", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(`${address}/client`);
  await expectLive(page);
  await page.getByLabel("Priority").fill("100");
  await page.getByTestId("submit").click();
  const mine = page.getByTestId("my-job");
  await expect(mine).toHaveAttribute("data-status", "in_progress");
  await fetch(`${address}/mock/finish?id=${await mine.getAttribute("data-id")}&says=it+dropped+node+7`);
  await expect(mine.getByTestId("remark")).toHaveText("Its worker says: it dropped node 7");
});

test("a job is not called silent when it is the server that nothing is heard of", async ({ page, mock }) => {
  const server = await mock();
  await page.clock.install();
  await page.goto(server.address);
  await expectLive(page);
  const row = page.locator('#running [data-testid="job"]').filter({ hasText: "loading a model" });
  const silent = row.getByTestId("silent");
  await expect(silent).toHaveText(/^silent for \d\d s$/);
  const panel = page.getByTestId("job-panel");
  await row.getByRole("link").click();
  await expect(panel.getByTestId("silent")).toHaveText(/^silent for \d\d s$/);
  await page.keyboard.press("Escape");
  await fetch(`${server.address}/mock/silence`);
  await page.clock.runFor(1_000);
  const before = await silent.innerText();
  await page.clock.runFor(4_000);
  await expectLive(page);
  await expect(silent, "it has not been asked since").toHaveText(before);
  await server.stop();
  await expect(page.getByTestId("not-live")).toBeVisible();
  await expect(page.getByTestId("silent")).toHaveCount(0);
});

test("a worker that was suspect long enough is said to take jobs again, one at a time", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  const worker = shown(page, "worker", "gpu-box-2-worker-1");
  await expect(worker).toContainText(/takes none until \d\d:\d\d:\d\d at the latest, then one at a time/);
  await fetch(`${address}/mock/suspect?id=gpu-box-2-worker-1&n=3`);
  await expect(worker).toContainText("takes none until");
  await expect(worker).toContainText("3 different jobs in a row; takes one at a time until one completes");
});

test("an attempt says in a word why it was given back, or how it failed, and no failure is without a title", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  await expectLive(page);
  const panel = await detailsOf(page, address, "stalled");
  await expect(panel.getByTestId("attempt").first()).toHaveText(/^Attempt 2, run 1\s+service fault/);
  await expect(panel.getByTestId("attempt").last()).toHaveText(/^Attempt 1, run 1\s+given back\s+stalled[^]*nothing came of it for 300 s\s*$/);
  await expect(panel.getByTestId("failure").getByRole("heading")).toHaveText("service fault");
});

test("a job that was lost too often says how often, and each worker once", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  await expectLive(page);
  const panel = await detailsOf(page, address, "lost often");
  await expect(panel.getByTestId("failure")).toContainText("Lost by spot-eu-4-worker-0 (4 times)");
  await expect(panel.locator("dl")).toContainText("4; fails beyond 3");
});

test("a job whose record cannot be read is repaired where it is opened, and an alert leads there", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  await expectLive(page);
  await page.locator('[data-testid="alert"][data-id^="inconsistent:job/"]').getByRole("link").click();
  const panel = page.getByTestId("job-panel");
  await expect(panel.getByTestId("problem")).toContainText("what is stored is damaged");
  await expect(panel.getByTestId("problem").locator("code").filter({ hasText: /^pointsman doctor$/ }), "no raw backticks").toBeVisible();
  await expect(panel.getByTestId("problem")).not.toContainText("`");
  await panel.getByTestId("repair").click();
  await panel.getByTestId("repair-yes").click();
  await expect(panel.getByTestId("repaired-here")).toBeVisible();
});

test("a service without a worker says whose it was", async ({ page, mock }) => {
  const { address } = await mock("--scene", "odd");
  await page.goto(address);
  await expect(shown(page, "connector", "nobody-worker-3:comfyui")).toContainText("nobody-worker-3:comfyui");
});

test("a token that cannot be one is refused by the page, and one that is tried says so meanwhile", async ({ page, mock }) => {
  const { address } = await mock("--token", "secret");
  await page.goto(address);
  const use = async (token: string) => {
    await page.getByLabel("Access token").fill(token);
    await page.getByRole("button", { name: "Use token" }).click();
  };
  await use("\u201csecret\u201d");
  await expect(page.getByTestId("token-problem")).toContainText("(\u201c, U+201C)");
  let answer = () => {};
  const answered = new Promise<void>((resolve) => (answer = resolve));
  await page.route("**/api/v1/events*", async (route) => answered.then(() => route.continue()));
  await use("secret");
  await expect(page.getByTestId("token-trial")).toHaveText(/^Asking the server/);
  answer();
  await expectLive(page);
});

test("every heading of the pages stands in a landmark", async ({ page, mock }) => {
  const { address } = await mock();
  for (const path of ["/", "/client"]) {
    await page.goto(`${address}${path}`);
    await expectLive(page);
    await expect(page.locator("h1")).toHaveCount(1);
    await expect(page.locator(":is(header, main, nav) h1")).toHaveCount(1);
  }
});

test("what all workers of a machine lack is said once, with how many", async ({ page, mock }) => {
  const { address } = await mock("--scene", "unreachable");
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(address);
  await expectLive(page);
  const card = shown(page, "machine", "gpu-01");
  await expect(card.getByTestId("worker")).toHaveCount(1);
  await expect(card.getByTestId("alike")).toHaveText("The same is so of 3 more workers");
  expect(await page.evaluate(() => document.documentElement.scrollHeight)).toBeLessThan(14_000);
  await card.getByText("The same is so of").click();
  await expect(card.getByTestId("worker")).toHaveCount(4);
  await expectShown(page, "connector", "gpu-01-worker-3:simulation", "error");
  await card.getByRole("button", { name: "Drain" }).first().focus();
  await page.getByRole("button", { name: "Show 2 more" }).dispatchEvent("click");
  const last = shown(page, "machine", "gpu-22");
  await expect(last.getByTestId("alike"), "though somebody is at work among the machines").toHaveText("The same is so of 3 more workers");
  await expect(last.getByTestId("worker")).toHaveCount(1);
});

test("who comes to differ from its neighbours stays in sight while somebody is at work among the machines", async ({ page, mock }) => {
  const { address } = await mock("--scene", "unreachable");
  await page.goto(address);
  await expectLive(page);
  const card = shown(page, "machine", "gpu-01");
  const [workers, others] = [card.getByTestId("worker"), card.getByTestId("alike")];
  await expect(others).toHaveText("The same is so of 3 more workers");
  await card.getByRole("button", { name: "Drain" }).first().focus();
  await fetch(`${address}/mock/suspect?id=gpu-01-worker-3&n=60`);
  await expect(others).toHaveText("The same is so of 2 more workers");
  await expect(workers).toHaveCount(2);
  await fetch(`${address}/api/v1/workers/gpu-01-worker-3/resume`, { method: "POST" });
  await expect(workers.last()).not.toContainText("suspect");
  await expect(workers).toHaveCount(2);
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await expect(workers).toHaveCount(1);
  await expect(others).toHaveText("The same is so of 3 more workers");
});

test("a ComfyUI that drops outputs of a job is told of where its result is shown", async ({ page, pointsman, dataDir }) => {
  const fleet = await Fleet.begin(pointsman, dataDir);
  const comfyui = await fleet.comfyui();
  await fleet.worker("box-worker-0", "box", `comfyui=${comfyui.address}`);
  const save = (prefix: string, from: string) => ({ class_type: "SaveImage", inputs: { filename_prefix: prefix, images: [from, 0] } });
  const workflow = {
    "1": { class_type: "EmptyImage", inputs: { width: 64, height: 64, batch_size: 1, color: 0 } },
    "2": save("whole", "1"), "3": { class_type: "EmptyImage", inputs: { width: "wide", height: 64, batch_size: 1, color: 0 } }, "4": save("dropped", "3"),
  };
  await page.goto(fleet.address);
  const job = await fleet.submit("comfyui", { workflow, allow_partial: true });
  await expectShown(page, "job", job.id, "completed", 30_000);
  await expect(shown(page, "job", job.id).getByTestId("remark")).toContainText("ComfyUI dropped the outputs of the nodes 4");
});

test("a command on a small screen has no line of a backslash alone", async ({ page, mock }) => {
  const { address } = await mock("--scene", "empty", "--token", "secret");
  await page.goto(address);
  await page.getByLabel("Access token").fill("secret");
  await page.getByRole("button", { name: "Use token" }).click();
  await expect(page.locator("#running pre")).toContainText("--wait \\");
  for (const width of [320, 360, 390, 430]) {
    await page.setViewportSize({ width, height: 844 });
    const alone = await page.locator("pre").evaluateAll((commands) => commands.flatMap((command) => {
      const range = document.createRange();
      const texts = document.createTreeWalker(command, NodeFilter.SHOW_TEXT);
      const box = (node: Node, at: number) => (range.setStart(node, at), range.setEnd(node, at + 1), range.getBoundingClientRect());
      const found: string[] = [];
      let before = 0;
      for (let node = texts.nextNode(); node; node = texts.nextNode()) {
        [...(node.textContent ?? "")].forEach((character, at) => {
          const { top } = box(node, at);
          if (character === "\\" && top > before) found.push(command.textContent ?? "");
          if (character.trim()) before = top;
        });
      }
      return found;
    }));
    expect(alone, `${width} px`).toEqual([]);
  }
});
