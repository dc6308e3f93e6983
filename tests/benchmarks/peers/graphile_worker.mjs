// graphile-worker with its default settings: `node graphile_worker.mjs <url> install | drain <jobs> | pick_up <jobs>`.
import { Logger, makeWorkerUtils, run, runOnce } from "graphile-worker";
import { setTimeout as sleep } from "node:timers/promises";

const PAUSE = 100; // milliseconds of idleness before a job that arrives alone
const [connectionString, command, count] = process.argv.slice(2);
const starts = [];
let started = () => {};
const options = {
  connectionString,
  noHandleSignals: true,
  logger: new Logger(() => () => {}),
  taskList: {
    nothing: () => {
      starts.push(performance.now());
      started();
    },
  },
};

const utils = await makeWorkerUtils(options);
if (command === "install") {
  await utils.migrate();
} else if (command === "drain") {
  await utils.withPgClient((client) =>
    client.query("select count(graphile_worker.add_job('nothing', '{}')) from generate_series(1, $1::integer)", [count]),
  );
  await runOnce(options);
  process.stdout.write(JSON.stringify((1000 * (starts.length - 1)) / (starts.at(-1) - starts[0])));
} else {
  const runner = await run(options);
  await sleep(1000); // until it listens
  const waits = [];
  for (let number = 0; number < Number(count); number += 1) {
    await sleep(PAUSE);
    const next = new Promise((resolve) => (started = resolve));
    await utils.addJob("nothing", {});
    const committed = performance.now();
    await next;
    waits.push(starts.at(-1) - committed);
  }
  process.stdout.write(JSON.stringify(waits));
  await runner.stop();
}
await utils.release();
