// One figure of BullMQ on a redis-server that is there and empty, as one line of JSON.
//
//   node bullmq.mjs FIGURE URL JOBS [CONCURRENCY]
//
// Queue and worker have BullMQ's defaults, so completed jobs are kept, as Pointsman keeps them.
import { once } from 'node:events';
import { Queue, Worker } from 'bullmq';

const [figure, url, jobs, concurrency] =
  [process.argv[2], process.argv[3], Number(process.argv[4]), Number(process.argv[5] ?? 1)];
const figures = { drain, 'submit-single': submitSingle, 'submit-bulk': submitBulk, start };
const measure = figures[figure];
if (!measure || !url || !(jobs > 0)) {
  console.error(`usage: bullmq.mjs ${Object.keys(figures).join('|')} URL JOBS [CONCURRENCY]`);
  process.exit(2);
}
const { hostname: host, port } = new URL(url);
const name = 'bench';
const connection = { host, port: Number(port) };
/** A bulk is so large, here as in Pointsman's workload. */
const BULK = 500;
const IN_FLIGHT = 50;
/** 2 KB of JSON. */
const payload = { duration_ms: 0, steps: 0, fail: null, padding: ' '.repeat(1_990) };

async function addInBulk(count) {
  for (let done = 0; done < count; done += BULK) {
    const bulk = Array.from({ length: Math.min(BULK, count - done) }, () => ({ name, data: payload }));
    await queue.addBulk(bulk);
  }
}

function seconds(began) {
  return (performance.now() - began) / 1000;
}

/** A worker that does nothing with its jobs, not yet running. */
function worker(processor, atOnce) {
  const worker = new Worker(name, processor, { connection, concurrency: atOnce, autorun: false });
  worker.on('error', (error) => {
    console.error(error);
    process.exit(1);
  });
  return worker;
}

/** How fast waiting jobs are run. */
async function drain() {
  await addInBulk(jobs);
  const runner = worker(async () => {}, concurrency);
  await runner.waitUntilReady();
  let left = jobs;
  const done = new Promise((resolve) => runner.on('completed', () => --left || resolve()));
  const began = performance.now();
  void runner.run();
  await done;
  const took = seconds(began);
  await runner.close();
  return { jobs_a_second: jobs / took };
}

/** One job a call, many calls at once. */
async function submitSingle() {
  let left = jobs;
  const began = performance.now();
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
    while (left-- > 0) await queue.add(name, payload);
  }));
  return { jobs_a_second: jobs / seconds(began) };
}

async function submitBulk() {
  const began = performance.now();
  await addInBulk(jobs);
  return { jobs_a_second: jobs / seconds(began) };
}

/** From before a job is added until its processor runs, one by one. */
async function start() {
  let began;
  const took = [];
  const runner = worker(async () => void took.push(performance.now() - began), 4);
  await runner.waitUntilReady();
  void runner.run();
  // One to warm up, which does not count.
  for (let n = 0; n <= jobs; n++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const completed = once(runner, 'completed');
    began = performance.now();
    await queue.add(name, payload);
    await completed;
  }
  await runner.close();
  const sorted = took.slice(1).sort((a, b) => a - b);
  const percentile = (p) => sorted[Math.ceil(sorted.length * p) - 1];
  return { p50_ms: percentile(0.5), p99_ms: percentile(0.99) };
}

const queue = new Queue(name, { connection });
await queue.waitUntilReady();
console.log(JSON.stringify({ jobs, ...(await measure()) }));
await queue.close();
