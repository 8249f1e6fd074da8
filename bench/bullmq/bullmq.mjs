// One figure of BullMQ on a redis-server that is there and empty, as one line of JSON.
//
//   node bullmq.mjs FIGURE URL JOBS [CONCURRENCY] [WORKERS]
//
// CONCURRENCY is each worker's; more workers than one run in threads of their own.
// Queue and worker have BullMQ's defaults, so completed jobs are kept, as Pointsman keeps them.
import { once } from 'node:events';
import { Worker as Thread, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';

/** A bulk is so large, here as in Pointsman's workload. */
const BULK = 500;
const IN_FLIGHT = 50;
const WARM_UP = 2_000;
/** 2 KB of JSON. */
const payload = { duration_ms: 0, steps: 0, fail: null, padding: ' '.repeat(1_990) };

const figures = { drain, 'submit-single': submitSingle, 'submit-bulk': submitBulk, start };
const [figure, url, jobs, concurrency, workers] =
  [process.argv[2], process.argv[3], ...[4, 5, 6].map((n) => Number(process.argv[n] ?? 1))];
const measure = figures[figure];
if (!measure || !url || !(jobs > 0 && concurrency > 0 && workers > 0)) {
  console.error(`usage: bullmq.mjs ${Object.keys(figures).join('|')} URL JOBS [CONCURRENCY] [WORKERS]`);
  process.exit(2);
}
const { hostname: host, port } = new URL(url);
const connection = { host, port: Number(port) };

if (isMainThread) {
  await warmUp('warm-up');
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  console.log(JSON.stringify({ jobs, ...(await measure(queue)) }));
  await queue.close();
} else {
  await runInThread(workerData);
}

/** Lets the engine compile what will be measured; nothing of it stays on the server. */
async function warmUp(name) {
  const queue = new Queue(name, { connection });
  await addInBulk(queue, WARM_UP / 2);
  await addOneByOne(queue, WARM_UP / 2);
  await runAll(queue, WARM_UP);
  await queue.obliterate({ force: true });
  await queue.close();
}

/** How fast waiting jobs are run. */
async function drain(queue) {
  await addInBulk(queue, jobs);
  const { took, redis } = workers > 1 ? await runInThreads(jobs) : await runAll(queue, jobs);
  return { jobs_a_second: jobs / took, redis_us_a_job: (redis / jobs) * 1e6 };
}

/** One job a call, many calls at once. */
async function submitSingle(queue) {
  const began = performance.now();
  await addOneByOne(queue, jobs);
  return { jobs_a_second: jobs / secondsSince(began) };
}

async function submitBulk(queue) {
  const began = performance.now();
  await addInBulk(queue, jobs);
  return { jobs_a_second: jobs / secondsSince(began) };
}

/** From before a job is added until its processor runs, one by one. */
async function start(queue) {
  let began;
  const took = [];
  const runner = worker(queue, async () => void took.push(performance.now() - began), 4);
  await runner.waitUntilReady();
  void runner.run();
  for (let n = 0; n < jobs; n++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const completed = once(runner, 'completed');
    began = performance.now();
    await queue.add('bench', payload);
    await completed;
  }
  await runner.close();
  took.sort((a, b) => a - b);
  const percentile = (p) => took[Math.ceil(took.length * p) - 1];
  return { p50_ms: percentile(0.5), p99_ms: percentile(0.99) };
}

async function addInBulk(queue, count) {
  for (let done = 0; done < count; done += BULK) {
    const size = Math.min(BULK, count - done);
    await queue.addBulk(Array.from({ length: size }, () => ({ name: 'bench', data: payload })));
  }
}

async function addOneByOne(queue, count) {
  let left = count;
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
    while (left-- > 0) await queue.add('bench', payload);
  }));
}

/** Runs the jobs that wait, so many at once as was asked for; answers the seconds that it took, and
 *  those of redis-server's process. */
async function runAll(queue, count) {
  const runner = worker(queue, async () => {}, concurrency);
  await runner.waitUntilReady();
  let left = count;
  const done = new Promise((resolve) => runner.on('completed', () => --left || resolve()));
  const spent = await stopwatch();
  void runner.run();
  await done;
  const seconds = await spent();
  await runner.close();
  return seconds;
}

/** The same with several workers. Each is warm before its first job counts. */
async function runInThreads(count) {
  const done = new Int32Array(new SharedArrayBuffer(4));
  const threads = Array.from({ length: workers }, (_, n) => new Thread(new URL(import.meta.url), {
    argv: process.argv.slice(2), workerData: { n, done, count },
  }));
  await Promise.all(threads.map((thread) => once(thread, 'message')));
  const spent = await stopwatch();
  for (const thread of threads) thread.postMessage('run');
  await Promise.race(threads.map((thread) => once(thread, 'message')));
  const seconds = await spent();
  for (const thread of threads) thread.postMessage('close');
  await Promise.all(threads.map((thread) => once(thread, 'exit')));
  return seconds;
}

async function runInThread({ n, done, count }) {
  await warmUp(`warm-up-${n}`);
  const runner = worker({ name: 'bench' }, async () => {}, concurrency);
  await runner.waitUntilReady();
  runner.on('completed', () => {
    if (Atomics.add(done, 0, 1) + 1 === count) parentPort.postMessage('done');
  });
  parentPort.postMessage('ready');
  await once(parentPort, 'message');
  void runner.run();
  await once(parentPort, 'message');
  await runner.close();
}

/** A worker that is not yet running. */
function worker(queue, processor, atOnce) {
  const worker = new Worker(queue.name, processor, { connection, concurrency: atOnce, autorun: false });
  worker.on('error', (error) => {
    console.error(error);
    process.exit(1);
  });
  return worker;
}

/** Answers what tells the seconds since now. */
async function stopwatch() {
  const client = new Redis(url);
  const processor = async () => {
    const info = await client.info('cpu');
    return Number(/used_cpu_user:(\S+)/.exec(info)[1]) + Number(/used_cpu_sys:(\S+)/.exec(info)[1]);
  };
  const before = await processor();
  const began = performance.now();
  return async () => {
    const took = secondsSince(began);
    const redis = (await processor()) - before;
    await client.quit();
    return { took, redis };
  };
}

function secondsSince(began) {
  return (performance.now() - began) / 1000;
}
