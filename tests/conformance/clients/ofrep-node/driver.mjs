// Evaluates flags with the official Node OFREP provider, as a client driver (see ../README.md).
//
// Its packages are installed elsewhere; the first argument is the folder that has node_modules.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(process.argv[2] + '/');
const { OpenFeature } = require('@openfeature/server-sdk');
const { OFREPProvider } = require('@openfeature/ofrep-provider');
const { dependencies } = require('./package.json');

const METHODS = {
  Boolean: 'getBooleanDetails',
  String: 'getStringDetails',
  Integer: 'getNumberDetails',
  Float: 'getNumberDetails',
  Object: 'getObjectDetails',
};

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n');

// Standard output carries answers only.
const quiet = { error() {}, warn() {}, info() {}, debug() {} };

async function connect(config) {
  const headers = config.selector === undefined ? [] : [['flagd-selector', config.selector]];
  if (config.token !== undefined) {
    headers.push(['authorization', `Bearer ${config.token}`]);
  }
  const provider = new OFREPProvider({ baseUrl: `http://${config.host}:${config.port}`, headers });
  await OpenFeature.setLogger(quiet).setProviderAndWait(provider);
}

async function evaluate(client, request) {
  const details = await client[METHODS[request.type]](request.key, request.default, request.context);
  return {
    value: details.value,
    variant: details.variant ?? null,
    reason: details.reason ?? null,
    errorCode: details.errorCode ?? null,
    errorMessage: details.errorMessage ?? null,
    metadata: details.flagMetadata ?? {},
  };
}

let client;
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (client === undefined) {
    await connect(message);
    client = OpenFeature.getClient();
    say({ ready: true, error: null, client: `ofrep-node ${dependencies['@openfeature/ofrep-provider']}` });
  } else {
    say({ id: message.id, ...(await evaluate(client, message)) });
  }
}
await OpenFeature.close();
process.exit(0);
