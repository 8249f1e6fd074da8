// A question that is open while things change: what was asked is what is done, or nothing is.

import { expect, test } from "../support/fixtures";
import { expectLive, expectShown, shown } from "../support/page";

test("a job that ends while its cancel is asked about is not run anew by the same button", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  const running = page.locator('#running [data-testid="job"]').filter({ hasText: "loading a model" });
  const id = await running.getAttribute("data-id");
  await running.getByRole("link").click();
  await page.getByTestId("cancel").press("Enter");
  await expect(page.getByTestId("cancel-yes")).toBeFocused();
  await fetch(`${address}/mock/finish?id=${id}`);
  await expect(page.getByTestId("job-state")).toHaveAttribute("data-status", "completed");
  await expect(page.getByTestId("retry-yes")).toHaveCount(0);
  await expect(page.getByTestId("cancel-yes")).toHaveCount(0);
  await expect(page.getByTestId("job-state")).toContainText("“Cancel job” was not ordered");
  await expect(page.getByTestId("retry"), "the keyboard stays where it was").toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("retry-yes")).toBeFocused();
  await expect(page.getByTestId("job-state")).not.toContainText("was not ordered");
});

test("a machine that falls silent while its drain is asked about is not removed by the same button", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  const machine = shown(page, "machine", "gpu-box-1");
  await machine.getByTestId("drain-machine").press("Enter");
  await expect(machine.getByTestId("drain-machine-yes")).toBeFocused();
  await fetch(`${address}/mock/lose?id=gpu-box-1`);
  await expectShown(page, "machine", "gpu-box-1", "disconnected");
  await expect(machine.getByTestId("remove-machine-yes")).toHaveCount(0);
  await expect(machine.getByTestId("drain-machine-yes")).toHaveCount(0);
  await expect(machine).toContainText("“Drain machine” was not ordered");
  await expect(machine.getByTestId("remove-machine")).toBeFocused();
});

test("a question stays as it was asked while other orders come before it", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  const machine = shown(page, "machine", "gpu-box-1");
  await machine.getByTestId("drain-machine").press("Enter");
  await fetch(`${address}/api/v1/workers/gpu-box-1-worker-0/drain`, { method: "POST" });
  await expectShown(page, "worker", "gpu-box-1-worker-0", "draining");
  await expect(machine.getByTestId("resume-machine")).toBeHidden();
  await expect(machine.getByTestId("drain-machine-yes")).toBeFocused();
  await page.keyboard.press("Enter");
  await expectShown(page, "worker", "gpu-box-1-worker-1", "draining");
});
