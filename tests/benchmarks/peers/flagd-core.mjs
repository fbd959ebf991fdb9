// Times @openfeature/flagd-core, the official JavaScript evaluator; started by the benchmark `evaluation`.
// Arguments: the folder of its node_modules, and a JSON file with `flags` (a flagd file) and `contexts`.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

const [folder, path] = process.argv.slice(2);
const { FlagdCore } = createRequire(join(folder, 'package.json'))('@openfeature/flagd-core');
const { flags, contexts } = JSON.parse(readFileSync(path, 'utf8'));
const silent = { error() {}, warn() {}, info() {}, debug() {} };
const core = new FlagdCore(undefined, silent);
core.setConfigurations(JSON.stringify(flags));

// One loop a flag, so that each is optimised for its own flag, as the Python loops are.
const loops = {};
for (const key of Object.keys(flags.flags)) {
  loops[key] = new Function('core', 'silent', `return (rows, repeat) => {
    let value;
    for (let round = 0; round < repeat; round++) {
      for (const row of rows) value = core.resolveBooleanEvaluation(${JSON.stringify(key)}, false, row, silent).value;
    }
    return value;
  }`)(core, silent);
}

for await (const line of createInterface({ input: process.stdin })) {
  const { case: key, repeat } = JSON.parse(line);
  let reply;
  if (repeat === undefined) {
    reply = contexts.map((context) => loops[key]([context], 1));
  } else {
    const start = process.hrtime.bigint();
    loops[key](contexts, repeat);
    reply = Number(process.hrtime.bigint() - start) / (repeat * contexts.length);
  }
  process.stdout.write(JSON.stringify(reply) + '\n');
}
