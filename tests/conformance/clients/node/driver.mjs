// Evaluate flags with the official Node flagd provider, as a client driver (see ../README.md).
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

// The packages stand in a cache outside the source tree, so they are loaded from the folder that is given.
const require = createRequire(join(process.argv[2], 'package.json'));
const { OpenFeature } = require('@openfeature/server-sdk');
const { FlagdProvider } = require('@openfeature/flagd-provider');
const { credentials, Metadata } = require('@grpc/grpc-js');
const { dependencies } = require(join(process.argv[2], 'package.json'));

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

// The provider has no option for a token, so its credentials get one where they are made.
function sendToken(token) {
  const { createSsl } = credentials;
  const bearer = credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    done(null, metadata);
  });
  credentials.createSsl = (...files) => credentials.combineChannelCredentials(createSsl(...files), bearer);
}

async function connect(config) {
  if (config.token !== undefined) {
    sendToken(config.token);
  }
  const provider = new FlagdProvider(
    {
      resolverType: config.resolver ?? 'rpc',
      host: config.host,
      port: config.port,
      tls: config.tls ?? false,
      certPath: config.certPath,
      selector: config.selector,
      cache: config.cache ?? 'disabled',
      deadlineMs: config.deadlineMs,
    },
    quiet,
  );
  try {
    await OpenFeature.setLogger(quiet).setProviderAndWait(provider);
    return null;
  } catch (error) {
    // An official client evaluates in the ERROR state too, so the driver goes on and tells.
    return String(error);
  }
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

async function answer(client, request) {
  if (request.op !== 'evaluateMany') {
    return evaluate(client, request);
  }
  const answers = [];
  for (const question of request.questions) {
    answers.push(await evaluate(client, question));
  }
  return { answers };
}

let client;
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (client === undefined) {
    const error = await connect(message);
    client = OpenFeature.getClient();
    say({ ready: error === null, error, client: `node ${dependencies['@openfeature/flagd-provider']}` });
  } else {
    say({ id: message.id, ...(await answer(client, message)) });
  }
}
await OpenFeature.close();
process.exit(0);
