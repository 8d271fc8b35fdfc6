// BullMQ: `node bullmq.mjs produce LOAD` and `node bullmq.mjs work LOAD CONCURRENCY`. Jobs that have ended are removed.
import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const require = createRequire(process.env.BENCHMARKS_NODE + "/");
const { Queue, QueueEvents, Worker } = require("bullmq");
const [mode, text, concurrency] = process.argv.slice(2);
const load = JSON.parse(text);
const name = "benchmarks";
const keep = load.job === "Echo" ? { removeOnComplete: { age: 60 } } : { removeOnComplete: true };

function connection() {
  const url = new URL(process.env.BENCHMARKS_URL);
  return { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
}

const cpu = () => process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6;
const epoch = () => performance.timeOrigin + performance.now();

async function produce() {
  const queue = new Queue(name, { connection: connection(), defaultJobOptions: keep });
  await queue.waitUntilReady();
  const events = load.mode === "results" ? new QueueEvents(name, { connection: connection() }) : null;
  await events?.waitUntilReady();
  const first = Date.now();
  const data = (n) => {
    switch (load.job) {
      case "Sleep": return { n, ms: load.sleep_ms };
      case "Stamp": return { n, at_ns: process.hrtime.bigint().toString(), us: load.spin_us };
      case "Late": return { n, due_ms: first + load.lead_ms + Math.floor((n * load.spread_ms) / load.jobs) };
      case "Echo": return { n };
      default: return { n, s: "x" };
    }
  };
  const job = (n) => {
    const given = data(n);
    const opts = load.job === "Late" ? { delay: Math.max(given.due_ms - Date.now(), 0) } : {};
    return { name: load.job, data: given, opts };
  };
  const delays = [];
  const began = process.hrtime.bigint(), used = cpu();
  if (load.mode === "bulk") {
    for (let start = 0; start < load.jobs; start += 1000) {
      const jobs = [];
      for (let n = start; n < Math.min(start + 1000, load.jobs); n++) jobs.push(job(n));
      await queue.addBulk(jobs);
    }
  } else if (load.mode === "concurrent") {
    await Promise.all([...Array(load.callers).keys()].map(async (caller) => {
      for (let n = caller; n < load.jobs; n += load.callers) await queue.add(load.job, data(n));
    }));
  } else {
    let due = performance.now();
    for (let n = 0; n < load.jobs; n++) {
      const at = performance.now();
      const added = await queue.add(load.job, data(n));
      if (load.mode === "results") {
        await added.waitUntilFinished(events);
        delays.push(performance.now() - at);
      } else if (load.mode === "paced") {
        due += load.spin_us ? -Math.log(1 - Math.random()) * load.pause_ms : load.pause_ms * (0.5 + Math.random());
        const left = due - performance.now();
        if (left > 0) await sleep(left);
      }
    }
  }
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log(JSON.stringify({ seconds, cpu_seconds: cpu() - used, delays }));
  await events?.close();
  await queue.close();
}

async function work() {
  const marks = new Uint8Array(Number(process.env.BENCHMARKS_JOBS));
  const delays = [];
  let began = [], cpuBegan = 0;
  const mark = (n) => {
    marks[n]++;
    if (n === 0) {
      began = [Number(process.hrtime.bigint()) / 1e9];
      cpuBegan = cpu();
    }
  };
  const worker = new Worker(name, async ({ data }) => {
    switch (load.job) {
      case "Sleep":
        mark(data.n);
        await sleep(data.ms);
        return;
      case "Stamp": {
        const late = process.hrtime.bigint() - BigInt(data.at_ns);
        mark(data.n);
        if (data.n) delays.push(Number(late) / 1e6);
        const end = cpu() + data.us / 1e6;
        while (data.us && cpu() < end);
        return;
      }
      case "Late":
        delays.push(epoch() - data.due_ms);
        mark(data.n);
        return;
      case "Echo":
        mark(data.n);
        return data.n;
      default:
        mark(data.n);
    }
  }, { connection: connection(), concurrency: Number(concurrency), ...(load.job === "Echo" ? {} : { removeOnComplete: { count: 0 } }) });
  worker.on("error", (error) => console.error(error));
  process.on("SIGTERM", async () => {
    await worker.close();
    const path = `${process.env.BENCHMARKS_TALLY}/${process.pid}`;
    writeFileSync(`${path}.marks`, marks);
    writeFileSync(`${path}.json`, JSON.stringify({ began, cpu_began: cpuBegan, delays }));
    process.exit(0);
  });
}

await (mode === "produce" ? produce() : work());
